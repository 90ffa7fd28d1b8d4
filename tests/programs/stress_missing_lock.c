/* `stress_missing_lock HOW SECONDS`: readers look at what a writer replaces and frees, a thousand times a
 * second. HOW: `locked`: as the rules say; `missing`: without a section, and each look takes a while; `late`:
 * what a section has found is used right behind it. A look that finds anything but what was published ends
 * the program with status 1 and says after how long. */
#include <stdatomic.h>

#include "victim.h"

enum { READERS = 2, WORDS = 8 };

static _Atomic(uint64_t *) current;
static atomic_bool stop;
static bool is_locked, is_late;
static uint64_t began_ms;

/* Whether all words of the block are the same. */
static bool is_whole(const volatile uint64_t *seen) {
    uint64_t first = seen[0];
    for (size_t at = 1; at < WORDS; at++) {
        if (seen[at] != first) {
            return false;
        }
    }
    return first != 0;
}

static void *reader(void *looks) {
    while (!stop) {
        if (is_locked || is_late) {
            rcumalloc_read_lock();
        }
        uint64_t *seen = atomic_load(&current);
        if (is_late) {
            rcumalloc_read_unlock();
        }
        bool is_well = is_whole(seen);
        /* A look that takes 10 us or so: it is at the block all the time. */
        for (int step = 0; step < 1000 && !is_late; step++) {
            is_well = is_well && is_whole(seen);
        }
        if (is_locked) {
            rcumalloc_read_unlock();
        }
        if (!is_well) {
            PRINT("failed_after_ms", now_ms() - began_ms);
            _exit(1);
        }
        ++*(uint64_t *)looks;
    }
    return NULL;
}

static uint64_t *filled_with(uint64_t value) {
    uint64_t *block = malloc(WORDS * sizeof *block);
    CHECK(block != NULL);
    for (size_t at = 0; at < WORDS; at++) {
        block[at] = value;
    }
    return block;
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    is_locked = strcmp(argv[1], "locked") == 0;
    is_late = strcmp(argv[1], "late") == 0;
    uint64_t ends_ms = (began_ms = now_ms()) + strtoull(argv[2], NULL, 10) * 1000;
    uint64_t looks[READERS] = {0};
    pthread_t readers[READERS];
    atomic_store(&current, filled_with(1));
    for (int at = 0; at < READERS; at++) {
        readers[at] = start(reader, &looks[at]);
    }
    uint64_t version = 1;
    while (now_ms() < ends_ms) {
        free(atomic_exchange(&current, filled_with(++version)));
        /* What a program does meanwhile: takes memory, writes to it and frees it. */
        uint64_t *other = filled_with(0);
        other[1] = version;
        free(other);
        sleep_ms(1);
    }
    stop = true;
    for (int at = 0; at < READERS; at++) {
        join(readers[at]);
        PRINT("looks", looks[at]);
    }
    free(atomic_load(&current));
    PRINT("versions", version);
}
