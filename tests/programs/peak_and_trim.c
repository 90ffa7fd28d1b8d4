/* `peak_and_trim solo|threads`: 300 MiB of small blocks, freed, and malloc_trim(0). With threads they
 * are made and freed by four of them, which have ended by then. */
#include "victim.h"

enum { THREADS = 4 };
static const size_t PEAK = (size_t)300 << 20;

static void *fill_and_free(void *share) {
    size_t wanted = (size_t)share, have = 0;
    uint64_t seed = 12345;
    void **last = NULL;
    while (have < wanted) {
        size_t size = 16 + next_random(&seed) % 240;
        void **block = malloc(size);
        CHECK(block != NULL);
        memset(block, 1, size);
        *block = last;
        last = block;
        have += size;
    }
    while (last != NULL) {
        void **next = *last;
        free(last);
        last = next;
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    if (strcmp(argv[1], "solo") == 0) {
        fill_and_free((void *)PEAK);
    } else {
        pthread_t thread[THREADS];
        for (int i = 0; i < THREADS; i++) {
            thread[i] = start(fill_and_free, (void *)(PEAK / THREADS));
        }
        for (int i = 0; i < THREADS; i++) {
            join(thread[i]);
        }
    }
    PRINT("peak_kib", hwm_kib());
    int given = malloc_trim(0);
    PRINT("given", given);
    PRINT("rss_kib", rss_kib());
    PRINT("live", stats().live_bytes);
}
