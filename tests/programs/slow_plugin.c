// flags: -shared -fPIC
/* A plug-in whose constructor, run under the loader's lock, waits for a thread whose first calls are
 * to the allocator; and has thread-local storage of its own, large, so that it is dynamic. */
#include "victim.h"

static _Thread_local char large[100000];

static void *work(void *unused) {
    void *block = malloc(10);
    CHECK(block != NULL);
    block = realloc(block, 100000);
    CHECK(block != NULL);
    free(block);
    exercise(3, 5000);
    return unused;
}

__attribute__((constructor)) static void load(void) {
    join(start(work, NULL));
    join(start_untold(work, NULL));
}

void touch_tls(void) { large[sizeof large - 1]++; }
