/* Frees 64 MiB in its own section, far past the budget: the calls return, nothing is given out again
 * before the section ends, other threads' sections come and go, and afterwards the memory is there. */
#include "victim.h"

enum { BLOCKS = 64 * 1024, SIZE = 1024 };
static void *block[BLOCKS];
static int stop;

static void *others(void *unused) {
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        rcumalloc_read_lock();
        free(malloc(100));
        rcumalloc_read_unlock();
    }
    return unused;
}

static int by_address(const void *a, const void *b) {
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return x < y ? -1 : x > y;
}

int main(void) {
    CHECK(rcumalloc_present());
    pthread_t thread = start(others, NULL);
    for (int i = 0; i < BLOCKS; i++) {
        block[i] = malloc(SIZE);
        fill(block[i], SIZE, i);
    }
    static void *freed[BLOCKS];
    memcpy(freed, block, sizeof freed);
    qsort(freed, BLOCKS, sizeof *freed, by_address);
    int again = 0, damaged = 0;
    uint64_t began = now_ms();
    rcumalloc_read_lock();
    for (int i = 0; i < BLOCKS; i++) {
        free(block[i]);
    }
    for (int i = 0; i < BLOCKS / 8; i++) {
        void *fresh = malloc(SIZE);
        again += bsearch(&fresh, freed, BLOCKS, sizeof *freed, by_address) != NULL;
        memset(fresh, 0xdd, SIZE);
        free(fresh);
    }
    for (int i = 0; i < BLOCKS; i++) {
        damaged += !filled(block[i], SIZE, i);
    }
    struct rcumalloc_stats inside = stats();
    rcumalloc_read_unlock();
    PRINT("ms", now_ms() - began);
    PRINT("again", again);
    PRINT("damaged", damaged);
    PRINT("deferred_inside", inside.deferred_bytes);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    join(thread);
    rcumalloc_barrier();
    struct rcumalloc_stats after = stats();
    PRINT("deferred_after", after.deferred_bytes);
    PRINT("budget", after.budget_bytes);
}
