/* `calls_refused NUMBER`: from main on a filter refuses a system call, as sandboxes do; then the process gets
 * threads, which fill the heap, empty it and trim it. */
#include "victim.h"
#include "filter.h"

enum { THREADS = 3, BLOCKS = 2000, STEPS = 100000, LARGE_EACH = 50, LARGE = 3000000, SMALL = 3000 };

static void *churn(void *argument) {
    unsigned char *blocks[BLOCKS] = {0};
    unsigned random = (unsigned)(uintptr_t)argument;
    unsigned char tag = (unsigned char)(1 + random);
    for (int step = 0; step < STEPS; step++) {
        random = random * 1664525 + 1013904223;
        unsigned i = (random >> 10) % BLOCKS, size = 1 + (random >> 8) % (i % LARGE_EACH ? SMALL : LARGE);
        if (blocks[i] == NULL || step % 9 == 0) {
            blocks[i] = realloc(blocks[i], size);
            CHECK(blocks[i] != NULL);
            blocks[i][0] = tag;
        } else {
            CHECK(blocks[i][0] == tag);
            free(blocks[i]);
            blocks[i] = NULL;
        }
    }
    for (int i = 0; i < BLOCKS; i++) {
        free(blocks[i]);
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    churn(NULL);
    answer_call((unsigned)atoi(argv[1]), EPERM);
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, churn, (void *)i) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        join(threads[i]);
    }
    malloc_trim(0);
    churn(NULL);
    PRINT("bad_calls", rcumalloc_present() ? stats().bad_calls : 0);
}
