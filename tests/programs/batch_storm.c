/* `batch_storm own|others`: blocks freed in an order left to chance come back, after their grace period,
 * magazine by magazine, each in the order they were freed in: a batch changes hands whole. Blocks that were
 * freed one by one would come back in the order of their addresses. */
#include "victim.h"

enum { SIZE = 64, BLOCKS = 50 * 508, ASKED = 4000 };
static void *block[BLOCKS];
static unsigned *freed_as; /* when the block at this place was freed; 0 is never */
static uintptr_t lowest = UINTPTR_MAX, highest;

static unsigned neighbours, known;

/* How many of the blocks asked for were freed right before the one that was given out before them. */
static void *ask(void *unused) {
    unsigned before = 0;
    for (int i = 0; i < ASKED; i++) {
        uintptr_t at = (uintptr_t)malloc(SIZE);
        CHECK(at != 0);
        unsigned now = at >= lowest && at <= highest ? freed_as[(at - lowest) / 16] : 0;
        known += now != 0;
        neighbours += now != 0 && now + 1 == before;
        before = now;
    }
    return unused;
}

static void *come_and_go(void *unused) { return unused; }

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    bool own = strcmp(argv[1], "own") == 0;
    /* Few enough to lie on this thread's shelf, all of them, or so many that most lie in the depot. */
    unsigned blocks = own ? BLOCKS / 4 : BLOCKS;
    join(start(come_and_go, NULL)); /* concurrent from here on */
    for (unsigned i = 0; i < blocks; i++) {
        block[i] = malloc(SIZE);
        CHECK(block[i] != NULL);
        uintptr_t at = (uintptr_t)block[i];
        lowest = at < lowest ? at : lowest;
        highest = at > highest ? at : highest;
    }
    size_t bytes = (highest - lowest) / 16 * sizeof *freed_as + sizeof *freed_as;
    freed_as = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(freed_as != MAP_FAILED);
    uint64_t seed = 42;
    for (unsigned i = blocks - 1; i > 0; i--) {
        unsigned other = next_random(&seed) % (i + 1);
        void *kept = block[i];
        block[i] = block[other];
        block[other] = kept;
    }
    for (unsigned i = 0; i < blocks; i++) {
        freed_as[((uintptr_t)block[i] - lowest) / 16] = i + 1;
        free(block[i]);
    }
    rcumalloc_synchronize();
    if (own) {
        ask(NULL);
    } else {
        join(start(ask, NULL));
    }
    PRINT("asked", ASKED);
    PRINT("known", known);
    PRINT("neighbours", neighbours);
    _exit(0);
}
