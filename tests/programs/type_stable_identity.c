/* A thread asks whose an address is while slabs and large blocks come, go and change their class:
 * whatever it is told must be true of the address. */
#include "victim.h"

static int stop;
static uintptr_t low, high;
static unsigned long asked, found_some, wrong;

static void *ask(void *unused) {
    uint64_t seed = 77;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        uintptr_t from = __atomic_load_n(&low, __ATOMIC_RELAXED),
            to = __atomic_load_n(&high, __ATOMIC_RELAXED);
        uintptr_t address = from + next_random(&seed) % (to - from + 1);
        struct rcumalloc_block found;
        asked++;
        if (rcumalloc_owner((void *)address, &found, sizeof found)) {
            found_some++;
            uintptr_t start = (uintptr_t)found.start;
            wrong += !(start <= address && address < start + found.size && found.size < (size_t)1 << 30);
        }
    }
    return unused;
}

int main(void) {
    CHECK(rcumalloc_present());
    uint64_t seed = 3;
    void *first = malloc(100000);
    low = (uintptr_t)first, high = low + 100000;
    pthread_t thread = start(ask, NULL);
    /* A slab or two at a time, so that the same pages are one thing after the other. */
    enum { MANY = 8192 };
    static void *block[MANY];
    uint64_t until = now_ms() + 2000;
    while (now_ms() < until) {
        size_t size = (size_t)16 << next_random(&seed) % 14;
        int many = (int)((size_t)131072 / size);
        for (int i = 0; i < many; i++) {
            block[i] = malloc(size);
            uintptr_t at = (uintptr_t)block[i];
            if (at < low) {
                __atomic_store_n(&low, at, __ATOMIC_RELAXED);
            }
            if (at + size > high) {
                __atomic_store_n(&high, at + size, __ATOMIC_RELAXED);
            }
        }
        for (int i = 0; i < many; i++) {
            free(block[i]);
        }
        malloc_trim(0); /* slabs go back to the zone, and come back as something else */
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    join(thread);
    PRINT("asked", asked);
    PRINT("found", found_some);
    PRINT("wrong", wrong);
}
