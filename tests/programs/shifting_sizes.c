/* `shifting_sizes THREADS`: programs whose sizes shift. In each of twice eight phases a tenth of the last
 * phase's blocks survives at random for a while, and the new ones are twice as large. What all threads
 * have live at the most, and the most that was resident. */
#include "victim.h"

enum { BLOCKS = 8000, PHASES = 16, SIZES = 8, REPLACED = 60000 };

static long live, most;

static void count(long bytes) {
    long now = __atomic_add_fetch(&live, bytes, __ATOMIC_RELAXED);
    if (now > __atomic_load_n(&most, __ATOMIC_RELAXED)) {
        __atomic_store_n(&most, now, __ATOMIC_RELAXED);
    }
}

static uint64_t next(uint64_t *state) {
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return *state >> 33;
}

static void *shift(void *seed) {
    uint64_t state = (uintptr_t)seed;
    long blocks = BLOCKS / (long)((uintptr_t)seed >> 8);
    char **block = calloc(blocks, sizeof *block);
    long *size = calloc(blocks, sizeof *size);
    CHECK(block != NULL && size != NULL);
    for (int phase = 0; phase < PHASES; phase++) {
        for (long i = 0; i < blocks; i++) {
            if (next(&state) % 10 != 0) {
                free(block[i]);
                count(-size[i]);
                block[i] = NULL;
                size[i] = 0;
            }
        }
        long base = 16L << phase % SIZES;
        for (long i = 0; i < REPLACED; i++) {
            long at = next(&state) % blocks;
            free(block[at]);
            count(-size[at]);
            size[at] = base + next(&state) % base;
            block[at] = malloc(size[at]);
            CHECK(block[at] != NULL);
            memset(block[at], 1, size[at]);
            count(size[at]);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    long threads = atol(argv[1]);
    if (threads == 1) {
        shift((void *)(1L << 8 | 1));
    } else {
        pthread_t thread[16];
        for (long i = 0; i < threads; i++) {
            thread[i] = start(shift, (void *)(threads << 8 | (i + 1)));
        }
        for (long i = 0; i < threads; i++) {
            join(thread[i]);
        }
    }
    PRINT("live_kib", most >> 10);
    PRINT("hwm_kib", hwm_kib());
}
