/* With RCUMALLOC_DEFER=api some blocks wait for a grace period and others are reused at once, of the same
 * size classes, in several threads. Each block keeps what was written to it, and no two that are in use
 * overlap. */
#include "victim.h"
#include <pthread.h>
#include <rcumalloc.h>

enum { THREADS = 2, HELD = 512, CALLS = 400000 };

static void *work(void *seed_of) {
    uint64_t seed = (uint64_t)(uintptr_t)seed_of;
    struct block {
        uint64_t *at;
        size_t words;
        uint64_t mark;
    } held[HELD] = {{NULL, 0, 0}};
    for (int call = 0; call < CALLS; call++) {
        struct block *block = &held[next_random(&seed) % HELD];
        if (block->at == NULL) {
            block->words = next_random(&seed) % 400 + 1;
            block->mark = next_random(&seed);
            block->at = malloc(block->words * 8);
            CHECK(block->at != NULL);
            block->at[0] = block->at[block->words - 1] = block->mark;
        } else {
            CHECK(block->at[0] == block->mark && block->at[block->words - 1] == block->mark);
            (next_random(&seed) % 2 == 0 ? rcumalloc_free : free)(block->at);
            block->at = NULL;
        }
    }
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS];
    for (uintptr_t number = 0; number < THREADS; number++) {
        CHECK(pthread_create(&threads[number], NULL, work, (void *)(88172645463325252u + number)) == 0);
    }
    for (int number = 0; number < THREADS; number++) {
        CHECK(pthread_join(threads[number], NULL) == 0);
    }
    return 0;
}
