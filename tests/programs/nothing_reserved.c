/* The address space of a program that allocates next to nothing. */
#include "victim.h"

int main(void) {
    free(malloc(100));
    PRINT("space_kib", status_kib("VmSize:"));
    return 0;
}
