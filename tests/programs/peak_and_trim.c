/* `peak_and_trim solo|threads`: 300 MiB of small blocks, freed, and malloc_trim(0). With threads they
 * are made, all of them, and then freed by four threads, which have ended by then. */
#include "victim.h"

enum { THREADS = 4 };
static pthread_barrier_t all_made;
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
    pthread_barrier_wait(&all_made);
    while (last != NULL) {
        void **next = *last;
        free(last);
        last = next;
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    int solo = strcmp(argv[1], "solo") == 0;
    pthread_barrier_init(&all_made, NULL, solo ? 1 : THREADS);
    if (solo) {
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
