/* Linked against the library and made set-user-ID by the test: what the environment asks for must
 * be ignored. Frees a stack address: reported if the environment were obeyed, the end if not. */
#include "victim.h"
#include <sys/auxv.h>

int main(void) {
    CHECK(rcumalloc_present());
    PRINT("secure", getauxval(AT_SECURE));
    void *volatile here = (void *)&here;
    free((void *)&here);
    dprintf(1, "went on\n");
    return 0;
}
