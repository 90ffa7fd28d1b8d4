/* A heap of a few MiB whose blocks grow by realloc and go, for long: now and then the one that grows is
 * the topmost. The heap must stay where it is. Before that, one topmost block with room below it: as it grows
 * it moves down, for growing where it is would take new ground. */
#include "victim.h"

static void *grow_and_go(void *unused) {
    for (int i = 1; i <= 12000; i++) {
        exercise(i, 300);
    }
    return unused;
}

static void grow_the_topmost(void) {
    enum { ROOM = 31 << 20, SHORT = 6 << 20, TALL = 16 << 20, STEP = 1 << 20 };
    void *room = malloc(ROOM);
    char *top = malloc(SHORT);
    CHECK(room != NULL && top > (char *)room);
    uintptr_t was = (uintptr_t)top;
    free(room);
    for (size_t size = SHORT + STEP; size <= TALL; size += STEP) {
        top = realloc(top, size);
        CHECK(top != NULL);
    }
    PRINT("moved_down", (uintptr_t)top < was);
    free(top);
}

int main(void) {
    CHECK(rcumalloc_present());
    grow_the_topmost();
    join(start(grow_and_go, NULL));
    PRINT("hwm_kib", hwm_kib());
}
