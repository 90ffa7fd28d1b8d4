/* A few blocks of a class in a magazine that does not fill: when they have waited longer than the age
 * limit (RCUMALLOC_GP_AGE_MS) and the thread comes by the allocator on other business, they are retired
 * and can be used again. Large blocks, too.
 *
 * `seldom`: the thread comes by on a slow path now and then only. `slowed`: it came by often until a moment
 * ago, and another thread is busy. */
#include "victim.h"

enum { FEW = 3, SIZE = 3000 };

static void *nothing(void *unused) { return unused; }

static int state(void *address) {
    struct rcumalloc_block found;
    return rcumalloc_owner(address, &found, sizeof found) && found.start == address ? found.state : 0;
}

static void *few[FEW];

static void free_few(void) {
    for (int i = 0; i < FEW; i++) {
        few[i] = malloc(SIZE);
    }
    for (int i = 0; i < FEW; i++) {
        free(few[i]);
    }
}

/* A slow path or two at a time, of a large block and its free, until the few are retired. */
static void come_by(int times, int every_ms) {
    while (times-- > 0 && state(few[0]) != 2) {
        sleep_ms(every_ms);
        free(malloc(100000));
    }
}

static void *busy(void *end) {
    while (!__atomic_load_n((int *)end, __ATOMIC_RELAXED)) {
        for (int i = 0; i < 2000; i++) {
            free(malloc(64));
        }
        sleep_ms(1);
    }
    return NULL;
}

static int seldom(void) {
    free_few();
    come_by(100, 50);
    CHECK(state(few[0]) == 2);
    /* It has just looked at the clock. If slow paths are all that counts it will again after 32 of them. */
    free_few();
    come_by(12, 50);
    PRINT("retired", state(few[0]) == 2);
    return 0;
}

static int slowed(void) {
    int end = 0;
    pthread_t thread = start(busy, &end);
    free_few();
    while (state(few[0]) != 2) {
        free(malloc(100000));
    }
    /* It has just looked at the clock, and did so before each few microseconds. */
    free_few();
    /* Each of another class, so each is a turn: this thread is not idle. */
    for (size_t size = 200; size < 10000 && state(few[0]) != 2; size += size / 3) {
        sleep_ms(200);
        CHECK(malloc(size) != NULL);
    }
    PRINT("retired", state(few[0]) == 2);
    __atomic_store_n(&end, 1, __ATOMIC_RELAXED);
    join(thread);
    return 0;
}

int main(int argc, char **argv) {
    CHECK(rcumalloc_present());
    join(start(nothing, NULL)); /* concurrent */
    if (argc == 2) {
        return strcmp(argv[1], "seldom") == 0 ? seldom() : slowed();
    }
    void *large = malloc(500000);
    free_few();
    PRINT("retired_at_once", state(few[0]) == 2);
    /* Other business, none of it small blocks: those would end the round in which the few are. */
    uint64_t until = now_ms() + 400;
    while (now_ms() < until) {
        free(malloc(100000));
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
