/* Threads that hand blocks to each other for so many seconds, and a reader that now and then takes its time:
 * something to look at (cargo xtask pictures). */
#include "victim.h"

enum { SLOTS = 20000, WRITERS = 2 };

static void *slots[SLOTS];
static uint64_t end_ms;

static void *write_blocks(void *number) {
    uint64_t seed = (uint64_t)(uintptr_t)number * 2654435761u + 1;
    while (now_ms() < end_ms) {
        /* More for a while, then less. */
        unsigned part = 1 + (unsigned)(now_ms() / 250 % 16);
        for (int i = 0; i < 2000; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            size_t bytes = 16 + (seed >> 40) % ((seed >> 36) % 16 == 0 ? 20000 : 500);
            void **slot = &slots[(seed >> 33) % (SLOTS / 16 * part)];
            free(__atomic_exchange_n(slot, malloc(bytes), __ATOMIC_ACQ_REL));
        }
        sleep_ms(2);
    }
    return NULL;
}

static void *read_slowly(void *unused) {
    (void)unused;
    while (now_ms() < end_ms) {
        rcumalloc_read_lock();
        sleep_ms(150);
        rcumalloc_read_unlock();
        sleep_ms(400);
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(rcumalloc_present());
    end_ms = now_ms() + (uint64_t)(argc > 1 ? atoi(argv[1]) : 10) * 1000;
    pthread_t threads[WRITERS + 1];
    for (int i = 0; i < WRITERS; i++) {
        CHECK(pthread_create(&threads[i], NULL, write_blocks, (void *)(uintptr_t)i) == 0);
    }
    CHECK(pthread_create(&threads[WRITERS], NULL, read_slowly, NULL) == 0);
    for (int i = 0; i <= WRITERS; i++) {
        pthread_join(threads[i], NULL);
    }
    return 0;
}
