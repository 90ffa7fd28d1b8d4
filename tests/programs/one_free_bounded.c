/* `one_free_bounded solo|idle|threads MODE`. No call of malloc's family does work that grows with the
 * heap: what it gives to the system, and how many blocks of what others have left it gives back, is
 * counted by the library itself. */
#include "victim.h"

enum { BLOCKS = 100000, SIZE = 20000, SMALL = 1000000, LAST = 20000, THREADS = 600, KEPT = 3000,
    CLASSES = 30 };

static void *idle(void *unused) {
    pause();
    return unused;
}

static pthread_barrier_t all_have_freed;

/* Leaves what it has freed on its shelf and in its magazines; every second thread stays, the others end. */
static void *leave_much(void *number) {
    void *blocks[KEPT];
    for (size_t i = 0; i < KEPT; i++) {
        CHECK((blocks[i] = malloc(16 + i % CLASSES * 16)) != NULL);
    }
    for (size_t i = 0; i < KEPT; i++) {
        rcumalloc_free(blocks[i]);
    }
    pthread_barrier_wait(&all_have_freed);
    return (uintptr_t)number % 2 == 0 ? idle(NULL) : NULL;
}

/* What many threads have left is given back by the calls of one, bit by bit. */
static void outlive_threads(void) {
    pthread_t threads[THREADS];
    CHECK(pthread_barrier_init(&all_have_freed, NULL, THREADS) == 0);
    for (uintptr_t i = 0; i < THREADS; i++) {
        threads[i] = start(leave_much, (void *)i);
    }
    for (size_t i = 1; i < THREADS; i += 2) {
        join(threads[i]);
    }
    PRINT("vacant", stats().caches_vacant);
    uint64_t end = now_ms() + 30000, least = now_ms() + 2000;
    while (now_ms() < end && (now_ms() < least || stats().caches_vacant != 0)) {
        void *blocks[KEPT];
        for (size_t i = 0; i < KEPT; i++) {
            CHECK((blocks[i] = malloc(100 + i % 8 * 500)) != NULL);
        }
        for (size_t i = 0; i < KEPT; i++) {
            free(blocks[i]);
        }
    }
    PRINT("still_vacant", stats().caches_vacant);
}

static void print_most(struct rcumalloc_stats s) {
    PRINT("purged_most", s.call_purged_most);
    PRINT("purges_most", s.call_purges_most);
    PRINT("blocks_most", s.call_blocks_most);
}

static void **allocate(size_t count, size_t size) {
    void **blocks = malloc(count * sizeof *blocks);
    CHECK(blocks != NULL);
    for (size_t i = 0; i < count; i++) {
        CHECK((blocks[i] = malloc(size)) != NULL);
    }
    return blocks;
}

int main(int argc, char **argv) {
    CHECK(argc == 3 && rcumalloc_present());
    if (strcmp(argv[1], "threads") == 0) {
        outlive_threads();
        print_most(stats());
        _exit(0);
    }
    if (strcmp(argv[1], "idle") == 0) {
        start(idle, NULL);
    }
    /* Every second block goes: far more than the watermark is free then, in stretches of five pages; the
     * others follow. */
    void **blocks = allocate(BLOCKS, SIZE);
    for (size_t first = 0; first < 2; first++) {
        for (size_t i = first; i < BLOCKS; i += 2) {
            free(blocks[i]);
        }
    }
    /* A section holds back all that is freed meanwhile; the first call after it meets all of it. */
    void **small = allocate(SMALL, 100), **last = allocate(LAST, SIZE);
    for (size_t i = 0; i < BLOCKS; i++) {
        CHECK((blocks[i] = malloc(SIZE)) != NULL);
    }
    rcumalloc_read_lock();
    for (size_t i = 0; i < BLOCKS; i++) {
        rcumalloc_free(blocks[i]);
    }
    for (size_t i = 0; i < SMALL; i++) {
        rcumalloc_free(small[i]);
    }
    CHECK(stats().deferred_bytes > stats().budget_bytes);
    rcumalloc_read_unlock();
    for (size_t i = 0; i < LAST; i++) {
        rcumalloc_free(last[i]);
    }
    struct rcumalloc_stats s = stats();
    /* In strict mode nothing is expedited, and the idle thread does not come by. */
    if (strcmp(argv[2], "strict") != 0) {
        PRINT("deferred_percent_of_budget", s.deferred_bytes * 100 / s.budget_bytes);
    }
    print_most(s);
    _exit(0);
}
