/* Blocks come to rest with threads that never call the allocator again: consumers that freed them,
 * one after the other, and a producer that made them. Somebody else must be able to use them. */
#include "victim.h"

enum { CONSUMERS = 40, BLOCKS = 64 * 1024, SIZE = 128 }; /* 8 MiB a round */
static void *block[BLOCKS];
static pthread_barrier_t handed, freed;

static void make(void) {
    for (int i = 0; i < BLOCKS; i++) {
        block[i] = malloc(SIZE);
        CHECK(block[i] != NULL);
        memset(block[i], 1, SIZE);
    }
}

static void release(void) {
    for (int i = 0; i < BLOCKS; i++) {
        free(block[i]);
    }
}

static void *consume_and_idle(void *unused) {
    release();
    pthread_barrier_wait(&freed);
    pause();
    return unused;
}

static void *produce_and_idle(void *unused) {
    make();
    pthread_barrier_wait(&handed);
    pause();
    return unused;
}

int main(void) {
    CHECK(rcumalloc_present());
    pthread_barrier_init(&handed, NULL, 2);
    pthread_barrier_init(&freed, NULL, 2);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 * 1024);
    pthread_t thread;
    for (int i = 0; i < CONSUMERS; i++) {
        make();
        CHECK(pthread_create(&thread, &small, consume_and_idle, NULL) == 0);
        pthread_barrier_wait(&freed);
    }
    PRINT("consumers_hwm_kib", hwm_kib());
    for (int i = 0; i < CONSUMERS; i++) {
        CHECK(pthread_create(&thread, &small, produce_and_idle, NULL) == 0);
        pthread_barrier_wait(&handed);
        release();
    }
    PRINT("hwm_kib", hwm_kib());
    _exit(0);
}
