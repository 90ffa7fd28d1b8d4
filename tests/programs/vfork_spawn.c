/* The child of vfork runs on its parent's memory and thread-local storage. It allocates there, which
 * programs do though they should not; other threads go on meanwhile; and nothing of the parent's heap
 * may take it for a fork. posix_spawn and the clone system call with CLONE_VM as well. */
#include "victim.h"
#include <sched.h>
#include <spawn.h>

enum { THREADS = 3, ROUNDS = 100, KEPT = 1000 };
extern char **environ;
static int stop;
static void *kept[KEPT];

static void *storm(void *seed) {
    for (uintptr_t i = (uintptr_t)seed << 32; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
        exercise(i + 1, 300);
    }
    return NULL;
}

static int in_clone(void *unused) {
    (void)unused;
    free(malloc(100));
    free(malloc(100000));
    free(kept[0]);
    kept[0] = malloc(1);
    fill(kept[0], 1, 0);
    return 0;
}

int main(void) {
    CHECK(rcumalloc_present());
    pthread_t thread[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) {
        thread[i] = start(storm, (void *)(i + 1));
    }
    for (int i = 0; i < KEPT; i++) {
        kept[i] = malloc(i + 1);
        fill(kept[i], i + 1, i);
    }
    char *stack = mmap(NULL, 1 << 18, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int round = 0; round < ROUNDS; round++) {
        pid_t child = vfork();
        if (child == 0) {
            for (int i = 0; i < 100; i++) {
                free(malloc(i * 30));
            }
            void *block = malloc(200000);
            free(block);
            if (round % 2) {
                execl("/bin/true", "true", NULL);
            }
            _exit(0);
        }
        reap(child);
        CHECK(posix_spawn(&child, "/bin/true", NULL, NULL, (char *[]){"true", NULL}, environ) == 0);
        reap(child);
        reap(clone(in_clone, stack + (1 << 18), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL));
        exercise(round + 1, 100);
        CHECK(stats().threads == THREADS + 1);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < THREADS; i++) {
        join(thread[i]);
    }
    for (int i = 0; i < KEPT; i++) {
        CHECK(filled(kept[i], i + 1, i));
        free(kept[i]);
    }
    PRINT("bad_calls", stats().bad_calls);
}
