/* `thread_churn THREADS`: short threads, one after the other and a few at once: joined, detached,
 * and such as the library was not told of. */
#include "victim.h"

static unsigned running;

static void *live_shortly(void *seed) {
    exercise((uintptr_t)seed, 30);
    void *block[50];
    for (int i = 0; i < 50; i++) {
        block[i] = malloc(i * 20);
    }
    for (int i = 0; i < 50; i++) {
        free(block[i]);
    }
    __atomic_fetch_sub(&running, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void churn(uintptr_t count) {
    for (uintptr_t i = 1; i <= count; i += 4) {
        __atomic_fetch_add(&running, 4, __ATOMIC_RELAXED);
        pthread_t one = start(live_shortly, (void *)i), two = start(live_shortly, (void *)(i + 1));
        pthread_t untold = start_untold(live_shortly, (void *)(i + 2));
        pthread_t detached = start(live_shortly, (void *)(i + 3));
        CHECK(pthread_detach(detached) == 0);
        join(one);
        join(two);
        join(untold);
        while (__atomic_load_n(&running, __ATOMIC_ACQUIRE) != 0) {
            sched_yield();
        }
    }
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    uintptr_t threads = strtoul(argv[1], NULL, 10);
    churn(threads / 10);
    struct rcumalloc_stats before = stats();
    long rss = rss_kib();
    churn(threads);
    struct rcumalloc_stats after = stats();
    PRINT("meta_growth", after.meta_bytes - before.meta_bytes);
    PRINT("rss_growth_kib", rss_kib() > rss ? rss_kib() - rss : 0);
    PRINT("hwm_kib", hwm_kib());
    PRINT("threads_peak", after.threads_peak);
}
