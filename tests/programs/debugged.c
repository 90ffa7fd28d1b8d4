/* `debugged [thread]`: allocates a little and comes to `halt`, where a debugger stops it; beside an idle
 * thread. */
#include "victim.h"

static void *idle(void *nothing) {
    for (;;) {
        pause();
    }
    return nothing;
}

__attribute__((noinline)) void halt(const char *block) { CHECK(block != NULL); }

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "thread") == 0) {
        start(idle, NULL);
    }
    char *block = malloc(1000);
    halt(block);
    free(block);
    return 0;
}
