/* Writes to freed blocks that wait: `wrong` makes three, to which nobody else has the blocks yet; `right`
 * none, while threads allocate and free. */
#include "victim.h"

enum { MANY = 4000, SIZE = 100 };

static char *volatile block[MANY];

static void *work(void *seed) {
    exercise((uint64_t)(uintptr_t)seed, 40000);
    return NULL;
}

static void wrong(void) {
    for (int i = 0; i < MANY; i++) {
        block[i] = malloc(SIZE);
        memset(block[i], 1, SIZE);
    }
    rcumalloc_read_lock();
    for (int i = 0; i < MANY; i++) {
        free(block[i]);
    }
    /* What was freed first has been sealed. */
    for (int i = 10; i < 40; i += 10) {
        block[i][SIZE - 1] = 2;
        PRINT("wrote", (uintptr_t)block[i]);
    }
    rcumalloc_read_unlock();
    rcumalloc_barrier();
}

static void right(void) {
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        threads[i] = start(work, (void *)(uintptr_t)(i + 1));
    }
    for (int i = 0; i < 3; i++) {
        join(threads[i]);
    }
    rcumalloc_barrier();
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    strcmp(argv[1], "wrong") == 0 ? wrong() : right();
    PRINT("looked_at", stats().blocks_checked);
    PRINT("changed", stats().blocks_changed);
    return 0;
}
