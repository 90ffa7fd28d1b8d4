/* `sizes_that_come_back`: a thread goes from size to size and begins anew, each time with as much as before.
 * What it has left of a size is wanted again: to give the pages back and to fault them in once more would be
 * work for nothing. How many faults a round takes when the heap has grown to what it needs. */
#include "victim.h"

enum { BLOCKS = 8000, ROUNDS = 24, GROWS = 8 };

static char *live[3 * BLOCKS];
static size_t count;
static uint64_t state = 1;
static long faults;

static long minor_faults(void) {
    struct rusage used;
    CHECK(getrusage(RUSAGE_THREAD, &used) == 0);
    return used.ru_minflt;
}

static size_t below(size_t bound) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(state >> 33) % bound;
}

static void take(int blocks, size_t size) {
    while (blocks-- > 0) {
        char *block = malloc(size);
        CHECK(block != NULL);
        memset(block, 1, size);
        live[count++] = block;
    }
}

/* Frees all but every tenth, at random. */
static void leave(void) {
    for (size_t left = count / 10; count > left;) {
        size_t at = below(count);
        free(live[at]);
        live[at] = live[--count];
    }
}

static void *work(void *unused) {
    for (int i = 0; i < ROUNDS; i++) {
        long before = minor_faults();
        for (size_t size = 16; size <= 1024; size = size * 8 / 5 + 1) {
            take(BLOCKS, size);
            leave();
            take(BLOCKS / 3, size * 3);
            leave();
        }
        while (count > 0) {
            free(live[--count]);
        }
        faults += i < GROWS ? 0 : minor_faults() - before;
    }
    return unused;
}

int main(void) {
    CHECK(rcumalloc_present());
    join(start(work, NULL));
    PRINT("faults_a_round", faults / (ROUNDS - GROWS));
}
