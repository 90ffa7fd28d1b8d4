/* `sleeping_waiter`: a thread takes and frees blocks of 24 bytes, 128 MiB of them, while main waits for
 * it: main has used the heap and does not come by. What waits must stay far below the budget. */
#include "victim.h"

static void *churn(void *unused) {
    for (int i = 0; i < (128 << 20) / 24; i++) {
        char *volatile block = malloc(24);
        CHECK(block != NULL);
        block[0] = 1;
        free(block);
    }
    return unused;
}

int main(void) {
    CHECK(rcumalloc_present());
    free(malloc(100));
    join(start(churn, NULL));
    PRINT("deferred_peak", stats().deferred_peak_bytes);
    PRINT("budget", stats().budget_bytes);
}
