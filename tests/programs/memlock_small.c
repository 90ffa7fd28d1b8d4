/* `memlock_small [thread]`: locks all its memory, present and future, without privilege, under a limit of
 * 8 MiB on locked memory. What it has then is locked, the limit binds, and what is given back can be had
 * again. */
#include "victim.h"

static void *idle(void *unused) {
    for (;;) {
        pause();
    }
    return unused;
}

int main(int argc, char **argv) {
    (void)argv;
    free(malloc(100));
    pthread_attr_t small;
    CHECK(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 64 << 10) == 0);
    pthread_t thread;
    CHECK(argc == 1 || pthread_create(&thread, &small, idle, NULL) == 0);
    CHECK(geteuid() != 0 || setuid(65534) == 0);
    CHECK(mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
    for (int round = 0; round < 3; round++) {
        char *block = malloc(1 << 20);
        CHECK(block != NULL);
        memset(block, 1, 1 << 20);
        free(block);
        CHECK(malloc(64 << 20) == NULL && errno == ENOMEM);
        malloc_trim(0);
    }
    PRINT("locked_kib", status_kib("VmLck:"));
    return 0;
}
