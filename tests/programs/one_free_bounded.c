/* `one_free_bounded solo|idle MODE`. No call of malloc's family does work that grows with the heap: what it gives to the system, and
 * how many blocks of what others have left it gives back, is counted by the library itself. */
#include "victim.h"

enum { BLOCKS = 100000, SIZE = 20000, SMALL = 1000000, LAST = 20000 };

static void *idle(void *unused) {
    pause();
    return unused;
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
    if (strcmp(argv[1], "idle") == 0) {
        start(idle, NULL);
    }
    /* Every second block goes: far more than the watermark is free then, in stretches of five pages; the others follow. */
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
    PRINT("purged_most", s.call_purged_most);
    PRINT("purges_most", s.call_purges_most);
    PRINT("blocks_most", s.call_blocks_most);
    _exit(0);
}
