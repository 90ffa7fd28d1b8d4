/* `raw_clone_child solo|threads`: children made by _Fork and by the clone system call itself, which
 * run no fork handlers. They allocate and free, as such children do in the wild, while in the parent
 * other threads were in the middle of allocating. */
#include "victim.h"

enum { CHILDREN = 60, THREADS = 3, KEPT = 1000 };
static int stop;
static void *kept[KEPT];

static void *storm(void *seed) {
    for (uintptr_t i = (uintptr_t)seed << 32; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
        exercise(i + 1, 300);
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    bool threads = strcmp(argv[1], "threads") == 0;
    pthread_t thread[THREADS];
    for (uintptr_t i = 0; threads && i < THREADS; i++) {
        thread[i] = start(storm, (void *)(i + 1));
    }
    for (int i = 0; i < KEPT; i++) {
        kept[i] = malloc(i + 1);
        fill(kept[i], i + 1, i);
    }
    for (int round = 0; round < CHILDREN; round++) {
        pid_t child = round % 2 ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : _Fork();
        if (child == 0) {
            alarm(60);
            exercise(round + 1, 1000);
            for (int i = 0; i < KEPT; i++) {
                CHECK(filled(kept[i], i + 1, i));
                free(kept[i]);
            }
            exercise(round + 2, 1000);
            rcumalloc_read_lock();
            rcumalloc_read_unlock();
            rcumalloc_synchronize();
            CHECK(stats().threads == 1);
            if (round % 10 == 0) {
                reap(({
                    pid_t grandchild = _Fork();
                    if (grandchild == 0) {
                        exercise(round + 3, 1000);
                        _exit(0);
                    }
                    grandchild;
                }));
            }
            _exit(0);
        }
        reap(child);
        exercise(round + 1, 100);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; threads && i < THREADS; i++) {
        join(thread[i]);
    }
    PRINT("bad_calls", stats().bad_calls);
}
