/* `soak_churn SECONDS`: threads that come and go, a shared structure read in sections and replaced by threads
 * that free the old one, forks, and now and then a peak of 200 MiB that is freed again. Every look at
 * memory is checked. Prints what was done. */
#include "victim.h"

enum { THREADS = 6, SLOTS = 256, PEAK_BLOCKS = 200 };

struct item { uint64_t number, again; char rest[200]; };
static struct item *slot[SLOTS];
static uint64_t looks, replaced, threads, forks, peaks; /* atomically */

static void replace(uint64_t *seed) {
    struct item *fresh = malloc(sizeof *fresh + next_random(seed) % 300);
    CHECK(fresh != NULL);
    fresh->number = fresh->again = next_random(seed);
    memset(fresh->rest, (int)fresh->number, sizeof fresh->rest);
    struct item *old = __atomic_exchange_n(&slot[next_random(seed) % SLOTS], fresh, __ATOMIC_ACQ_REL);
    free(old);
    __atomic_fetch_add(&replaced, 1, __ATOMIC_RELAXED);
}

static void look(uint64_t *seed) {
    rcumalloc_read_lock();
    struct item *seen = __atomic_load_n(&slot[next_random(seed) % SLOTS], __ATOMIC_ACQUIRE);
    if (seen != NULL) {
        uint64_t number = seen->number;
        for (int i = 0; i < 20; i++) {
            CHECK(seen->again == number);
            CHECK(seen->rest[next_random(seed) % sizeof seen->rest] == (char)number);
        }
    }
    rcumalloc_read_unlock();
    __atomic_fetch_add(&looks, 1, __ATOMIC_RELAXED);
}

static void *live_shortly(void *given) {
    uint64_t seed = (uintptr_t)given * 2654435761u + 1;
    for (int i = 0; i < 300; i++) {
        replace(&seed);
        look(&seed);
        look(&seed);
    }
    exercise(seed, 200);
    __atomic_fetch_add(&threads, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void peak(void) {
    static void *block[PEAK_BLOCKS];
    for (int i = 0; i < PEAK_BLOCKS; i++) {
        block[i] = malloc(1 << 20);
        CHECK(block[i] != NULL);
        fill(block[i], 1 << 20, (unsigned)i);
    }
    for (int i = 0; i < PEAK_BLOCKS; i++) {
        CHECK(filled(block[i], 1 << 20, (unsigned)i));
        free(block[i]);
    }
    peaks++;
}

static void fork_once(uint64_t seed) {
    pid_t child = fork();
    if (child == 0) {
        exercise(seed, 500);
        look(&seed);
        _exit(0);
    }
    reap(child);
    forks++;
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    uint64_t end = now_ms() + strtoull(argv[1], NULL, 10) * 1000, turn = 0;
    while (now_ms() < end) {
        pthread_t running[THREADS];
        for (int i = 0; i < THREADS; i++) {
            running[i] = start(live_shortly, (void *)(turn * THREADS + i + 1));
        }
        if (++turn % 20 == 0) {
            fork_once(turn);
        }
        for (int i = 0; i < THREADS; i++) {
            join(running[i]);
        }
        if (turn % 500 == 0) {
            peak();
        }
        sleep_ms(20);
    }
    PRINT("threads", threads);
    PRINT("looks", looks);
    PRINT("replaced", replaced);
    PRINT("forks", forks);
    PRINT("peaks", peaks);
    PRINT("bad_calls", stats().bad_calls);
}
