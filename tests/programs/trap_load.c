/* Threads that allocate and free all sizes, with many blocks live; `wrong`: one of them uses what it has
 * freed. */
#include "victim.h"

static void *work(void *seed) {
    exercise((uint64_t)(uintptr_t)seed, 20000);
    return NULL;
}

static void *use_freed(void *unused) {
    (void)unused;
    void (*volatile put)(void *) = free;
    for (int i = 0; i < 100000; i++) {
        volatile char *block = malloc(16 + (size_t)i % 200);
        block[1] = 1;
        put((void *)block);
        CHECK(block[1] == 1);
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    enum { THREADS = 3, KEPT = 2000 };
    static void *kept[KEPT];
    uint64_t before = stats().trapped_bytes, live = stats().live_bytes;
    for (int i = 0; i < KEPT; i++) {
        kept[i] = malloc(40);
        fill(kept[i], 40, 3);
    }
    /* What is trapped is nowhere else. */
    PRINT("trapped", stats().trapped_bytes - before);
    PRINT("live", stats().live_bytes - live);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        threads[i] = start(work, (void *)(uintptr_t)(i + 1));
    }
    for (int i = 0; i < KEPT; i++) {
        CHECK(filled(kept[i], 40, 3));
        free(kept[i]);
    }
    if (strcmp(argv[1], "wrong") == 0) {
        join(start(use_freed, NULL));
    }
    for (int i = 0; i < THREADS; i++) {
        join(threads[i]);
    }
    return 0;
}
