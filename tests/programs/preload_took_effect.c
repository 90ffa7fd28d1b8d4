/* Says whether the library is there; with an argument, uses it as if it were. */
#include "victim.h"

int main(int argc, char **argv) {
    (void)argv;
    dprintf(1, "present %d\n", rcumalloc_present());
    if (argc > 1) {
        rcumalloc_free(malloc(1));
        dprintf(1, "went on\n");
    }
    return 0;
}
