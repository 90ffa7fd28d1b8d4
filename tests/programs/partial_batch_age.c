/* A few blocks of a class in a magazine that does not fill: when they have waited longer than the age
 * limit (RCUMALLOC_GP_AGE_MS) and the thread comes by the allocator on other business, they are retired
 * and can be used again. Large blocks, too. */
#include "victim.h"

enum { FEW = 3, SIZE = 3000 };

static void *nothing(void *unused) { return unused; }

static int state(void *address) {
    struct rcumalloc_block found;
    return rcumalloc_owner(address, &found) && found.start == address ? found.state : 0;
}

int main(void) {
    CHECK(rcumalloc_present());
    join(start(nothing, NULL)); /* concurrent */
    void *few[FEW], *large = malloc(500000);
    for (int i = 0; i < FEW; i++) {
        few[i] = malloc(SIZE);
    }
    for (int i = 0; i < FEW; i++) {
        free(few[i]);
    }
    PRINT("retired_at_once", state(few[0]) == 2);
    /* Other business: sizes of other classes. */
    uint64_t until = now_ms() + 400;
    while (now_ms() < until) {
        for (int i = 0; i < 200; i++) {
            free(malloc(64));
        }
        sleep_ms(1);
    }
    int retired = 0;
    for (int i = 0; i < FEW; i++) {
        retired += state(few[i]) == 2;
    }
    PRINT("retired", retired);
    free(large);
    /* Given out again: to whoever asks for that many. */
    int seen = 0;
    for (int i = 0; i < 200; i++) {
        void *block = malloc(SIZE);
        for (int j = 0; j < FEW; j++) {
            seen += block == few[j];
        }
    }
    PRINT("seen_again", seen);
}
