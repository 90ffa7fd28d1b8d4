/* `large_blocks solo|threads`. Large blocks that a thread keeps ready: reused at once or after a grace
 * period, bounded, and given back by trim, by other threads' trim, and at the thread's end. Figures are
 * bytes the zone has handed out. */
#include "victim.h"
#include <stdatomic.h>

enum { SIZE = 50000, MIB = 1 << 20 };

static uint64_t mapped(void) { return stats().mapped_bytes; }

static void *churn(void *rounds) {
    for (long i = 0; i < (long)(intptr_t)rounds; i++) {
        free(malloc(SIZE));
    }
    return NULL;
}

static pthread_barrier_t churned;
static void *churn_and_end(void *rounds) {
    churn(rounds);
    pthread_barrier_wait(&churned); /* each has a cache of its own */
    return NULL;
}
static void *churn_and_idle(void *rounds) {
    churn(rounds);
    pthread_barrier_wait(&churned);
    pause();
    return rounds;
}

static atomic_bool is_open, may_close;
static void *read_until_told(void *unused) {
    rcumalloc_read_lock();
    is_open = true;
    while (!may_close) {
        sched_yield();
    }
    rcumalloc_read_unlock();
    return unused;
}

static void solo(void) {
    /* The same block again, at once; every few sizes too. */
    void *first = malloc(SIZE), *other = malloc(2 * SIZE);
    CHECK(first != NULL && other != NULL);
    uint64_t base = mapped(), moved = 0;
    free(first);
    free(other);
    for (int i = 0; i < 1000; i++) {
        void *one = malloc(SIZE), *two = malloc(2 * SIZE);
        moved += one != first || two != other;
        memset(one, 1, SIZE);
        free(one);
        free(two);
    }
    PRINT("moved", moved);
    /* A block serves no request that is much smaller, or more aligned than it is. */
    free(malloc(400000));
    char *smaller = malloc(200000), *aligned = aligned_alloc(MIB, 300000);
    PRINT("usable", malloc_usable_size(smaller));
    PRINT("misaligned", (uintptr_t)aligned % MIB);
    free(smaller);
    free(aligned);
    /* What calloc gives is zero, though the block is not. */
    unsigned char *dirty = malloc(SIZE);
    memset(dirty, 0xff, SIZE);
    free(dirty);
    unsigned char *zero = calloc(1, SIZE);
    int ones = 0;
    for (int i = 0; i < SIZE; i++) {
        ones += zero[i] != 0;
    }
    PRINT("reused_by_calloc", zero == dirty);
    PRINT("not_zero", ones);
    free(zero);
    /* Many sizes at once: what is ready is bounded. */
    for (size_t size = 40000; size < 8 * MIB; size += size / 10) {
        free(malloc(size));
    }
    PRINT("ready", mapped() - base);
    CHECK(malloc_trim(0));
    PRINT("ready_after_trim", mapped() - (base < mapped() ? base : mapped()));
    PRINT("live_large", stats().live_large_bytes);
}

static void threads(void) {
    /* Not before the section that began first has ended, then again. */
    pthread_t reader = start(read_until_told, NULL);
    while (!is_open) {
        sched_yield();
    }
    void *seen = malloc(SIZE);
    free(seen);
    int early = 0, late = 0;
    for (int i = 0; i < 60; i++) { /* within the thread's share: none of them waits for everybody */
        void *block = malloc(SIZE);
        early += block == seen;
        free(block);
    }
    PRINT("early", early);
    may_close = true;
    join(reader);
    for (int i = 0; i < 300; i++) {
        void *block = malloc(SIZE);
        late += block == seen;
        free(block);
    }
    PRINT("late", late);
    uint64_t circulating = mapped();
    churn((void *)10000);
    PRINT("circulating", mapped() - (circulating < mapped() ? circulating : mapped()));
    rcumalloc_barrier();
    uint64_t before = mapped();
    /* A thread's end gives its blocks back, ... */
    enum { TOGETHER = 8 };
    pthread_t thread[TOGETHER];
    pthread_barrier_init(&churned, NULL, TOGETHER);
    for (int i = 0; i < TOGETHER; i++) {
        thread[i] = start(churn_and_end, (void *)201);
    }
    for (int i = 0; i < TOGETHER; i++) {
        join(thread[i]);
    }
    rcumalloc_barrier();
    PRINT("left_by_threads", mapped() - (before < mapped() ? before : mapped()));
    /* ... and trim takes those of threads that sleep, but for what they freed since their last batch. */
    pthread_barrier_init(&churned, NULL, 2);
    for (int i = 0; i < 4; i++) {
        start(churn_and_idle, (void *)201);
        pthread_barrier_wait(&churned);
    }
    PRINT("kept_by_idle_threads", mapped() - before);
    rcumalloc_barrier();
    malloc_trim(0);
    PRINT("kept_after_trim", mapped() - (before < mapped() ? before : mapped()));
    PRINT("live_large", stats().live_large_bytes);
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    strcmp(argv[1], "solo") == 0 ? solo() : threads();
    _exit(0);
}
