/* Threads allocate and free without pause; main forks again and again. The child allocates, frees
 * what it inherited, starts a thread and forks again. popen and system in between. */
#include "victim.h"

enum { THREADS = 4, FORKS = 150, KEPT = 2000 };
static int stop;
static void *kept[KEPT];

static void *storm(void *seed) {
    for (uintptr_t i = (uintptr_t)seed << 32; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
        exercise(i + 1, 300);
        free(malloc(100000 + i % 1000000));
    }
    return NULL;
}

static size_t size_of(int i) { return (size_t)(i % 500) * (i % 20 == 0 ? 300 : 3) + 1; }

static void *a_while(void *seed) {
    exercise((uintptr_t)seed, 500);
    return NULL;
}

int main(void) {
    CHECK(rcumalloc_present());
    for (int i = 0; i < KEPT; i++) {
        kept[i] = malloc(size_of(i));
        fill(kept[i], size_of(i), i);
    }
    pthread_t thread[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) {
        thread[i] = start(storm, (void *)(i + 1));
    }
    for (int round = 0; round < FORKS; round++) {
        alarm(60); /* a child that hangs is found, and is not the parent's to wait for */
        pid_t child = fork();
        if (child == 0) {
            alarm(60);
            a_while((void *)(uintptr_t)(round + 1));
            for (int i = 0; i < KEPT; i++) {
                CHECK(filled(kept[i], size_of(i), i));
                free(kept[i]);
            }
            join(start(a_while, (void *)5));
            rcumalloc_read_lock();
            rcumalloc_read_unlock();
            rcumalloc_synchronize();
            rcumalloc_barrier();
            CHECK(stats().threads == 1);
            pid_t grandchild = fork();
            if (grandchild == 0) {
                alarm(60);
                a_while((void *)6);
                exit(0);
            }
            reap(grandchild);
            exit(0);
        }
        reap(child);
        if (round % 30 == 0) {
            FILE *pipe = popen("echo said", "r");
            char said[10] = "";
            CHECK(pipe != NULL && fgets(said, sizeof said, pipe) != NULL && strcmp(said, "said\n") == 0);
            CHECK(pclose(pipe) == 0);
            CHECK(system("exit 0") == 0);
        }
        free(malloc(100));
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < THREADS; i++) {
        join(thread[i]);
    }
    for (int i = 0; i < KEPT; i++) {
        CHECK(filled(kept[i], size_of(i), i));
        free(kept[i]);
    }
    PRINT("bad_calls", stats().bad_calls);
}
