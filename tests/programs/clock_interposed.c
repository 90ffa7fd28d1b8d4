/* Threads that allocate beside a library that stands in front of libc's clock (clock_interposer.c, or
 * libfaketime). The heap looks at the clock on its slow paths and in its own thread: neither may come by
 * there. */
#include "victim.h"

enum { THREADS = 3, ROUNDS = 4, LEAST = 100 };
static int stop;

static void *work(void *seed) {
    for (int i = 0; i < LEAST || !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
        exercise((uintptr_t)seed * 1000 + i, 300);
    }
    return NULL;
}

int main(void) {
    /* Large enough for the heap to have a thread of its own. */
    char *big = malloc(40 << 20);
    memset(big, 1, 40 << 20);
    bool was_watched = false;
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t thread[THREADS];
        for (uintptr_t i = 0; i < THREADS; i++) {
            thread[i] = start(work, (void *)(i + 1));
        }
        for (int i = 0; i < 1000 && !was_watched; i++) {
            sleep_ms(2);
            was_watched = thread_count() > THREADS + 1;
        }
        sleep_ms(20);
        __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
        for (int i = 0; i < THREADS; i++) {
            join(thread[i]);
        }
        rcumalloc_synchronize();
    }
    unsigned (*calls)(void) = (unsigned (*)(void))dlsym(RTLD_DEFAULT, "clock_calls");
    PRINT("calls", calls == NULL ? 0 : calls());
    PRINT("watched", was_watched);
    PRINT("bad_calls", stats().bad_calls);
}
