// flags: -shared -fPIC
/* In the place of the library: a preload that changes what a program does, as MEDDLE says. The matrix of real
 * programs must notice. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((constructor)) static void meddle(void) {
    const char *how = MEDDLE;
    if (strcmp(how, "stdout") == 0) {
        (void)!write(1, "x", 1);
    } else if (strcmp(how, "stderr") == 0) {
        (void)!write(2, "x", 1);
    } else if (strcmp(how, "status") == 0) {
        _exit(7);
    } else if (strcmp(how, "crash") == 0) {
        abort();
    }
}
