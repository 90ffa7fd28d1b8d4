/* What eight threads that allocate a little and fall asleep cost, and how many processors the C library
 * takes the machine to have. */
#include "victim.h"

enum { THREADS = 8 };
static pthread_barrier_t ready;

static void *idle(void *seed) {
    exercise((uintptr_t)seed, 2000);
    pthread_barrier_wait(&ready);
    pause();
    return NULL;
}

int main(void) {
    CHECK(rcumalloc_present());
    pthread_barrier_init(&ready, NULL, THREADS + 1);
    for (uintptr_t i = 0; i < THREADS; i++) {
        start(idle, (void *)(i + 1));
    }
    pthread_barrier_wait(&ready);
    PRINT("processors", sysconf(_SC_NPROCESSORS_ONLN));
    PRINT("rss_kib", rss_kib());
    PRINT("meta_bytes", stats().meta_bytes);
    PRINT("mapped_kib", stats().mapped_bytes >> 10);
    _exit(0);
}
