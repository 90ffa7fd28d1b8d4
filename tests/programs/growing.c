/* A heap of a few MiB whose blocks grow by realloc and go, for long: now and then the one that grows is
 * the topmost. The heap must stay where it is. */
#include "victim.h"

static void *grow_and_go(void *unused) {
    for (int i = 1; i <= 12000; i++) {
        exercise(i, 300);
    }
    return unused;
}

int main(void) {
    CHECK(rcumalloc_present());
    join(start(grow_and_go, NULL));
    PRINT("hwm_kib", hwm_kib());
}
