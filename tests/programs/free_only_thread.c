/* `free_only_thread MIB SIZE told|untold`: a thread that only ever frees; main allocates MIB in
 * blocks of SIZE and hands them over, in batches through a ring. */
#include "victim.h"

enum { BATCH = 256, RING = 8 };
static void *ring[RING][BATCH];
static unsigned made, taken; /* batches */

static void *free_only(void *unused) {
    for (;;) {
        unsigned at = __atomic_load_n(&taken, __ATOMIC_RELAXED);
        while (__atomic_load_n(&made, __ATOMIC_ACQUIRE) == at) {
            sched_yield();
        }
        void **batch = ring[at % RING];
        if (batch[0] == NULL) {
            return unused;
        }
        for (int i = 0; i < BATCH; i++) {
            free(batch[i]);
        }
        __atomic_store_n(&taken, at + 1, __ATOMIC_RELEASE);
    }
}

int main(int argc, char **argv) {
    CHECK(argc == 4 && rcumalloc_present());
    size_t total = strtoull(argv[1], NULL, 10) << 20, size = strtoull(argv[2], NULL, 10);
    pthread_t thread = argv[3][0] == 't' ? start(free_only, NULL) : start_untold(free_only, NULL);
    for (size_t done = 0;; done += size * BATCH) {
        while (made - __atomic_load_n(&taken, __ATOMIC_ACQUIRE) == RING) {
            sched_yield();
        }
        void **batch = ring[made % RING];
        for (int i = 0; i < BATCH; i++) {
            batch[i] = done < total ? malloc(size) : NULL;
            CHECK(batch[i] != NULL || done >= total);
            if (batch[i] != NULL) {
                memset(batch[i], 1, size);
            }
        }
        __atomic_store_n(&made, made + 1, __ATOMIC_RELEASE);
        if (done >= total) {
            break;
        }
    }
    join(thread);
    PRINT("hwm_kib", hwm_kib());
    PRINT("deferred_peak", stats().deferred_peak_bytes);
}
