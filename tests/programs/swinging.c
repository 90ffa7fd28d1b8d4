/* A heap that swings by 40 MiB, beside a thread that sleeps: how much of it is given back on the way? */
#include "victim.h"

enum { BLOCK = 256 << 10, HELD = 96, SWING = 160, SWINGS = 6 };

static void *sleeper(void *unused) {
    pause();
    return unused;
}

/* Beside the two threads of the program. */
static bool is_watched(void) { return thread_count() > 2; }

static void take(char **blocks, int count) {
    for (int i = 0; i < count; i++) {
        blocks[i] = malloc(BLOCK);
        CHECK(blocks[i] != NULL);
        memset(blocks[i], i, BLOCK);
    }
}

int main(void) {
    CHECK(rcumalloc_present());
    char *held[HELD], *swing[SWING];
    start(sleeper, NULL);
    take(held, HELD);
    uint64_t from = now_ms();
    /* A watcher, if there may be one, is started from a slow path, which is what a large block takes. */
    unsigned patience_ms = getenv("RCUMALLOC_PRESSURE") == NULL ? 20000 : 200;
    while (!is_watched() && now_ms() < from + patience_ms) {
        for (int i = 0; i < 100; i++) {
            exercise(i, 50);
        }
    }
    PRINT("watched", is_watched());
    uint64_t before = stats().purged_bytes;
    from = now_ms();
    for (int i = 0; i < SWINGS; i++) {
        take(swing, SWING);
        for (int block = 0; block < SWING; block++) {
            free(swing[block]);
        }
    }
    PRINT("ms", now_ms() - from);
    PRINT("purged_kib", (stats().purged_bytes - before) >> 10);
}
