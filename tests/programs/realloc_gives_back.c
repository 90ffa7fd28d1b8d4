/* `realloc_gives_back solo|idle`. A large block that shrinks stays where it is, nothing is copied, and its
 * tail goes back: at once where frees are not deferred, else when no section can see it any more. */
#include "victim.h"

static const size_t MIB = 1 << 20;

static void *idle(void *unused) {
    pause();
    return unused;
}

/* Its first `mib` MiB are as they were filled, a byte a page. */
static bool intact(const unsigned char *block, size_t mib) {
    for (size_t at = 0; at < mib * MIB; at += 4096) {
        if (block[at] != (unsigned char)(at >> 12)) {
            return false;
        }
    }
    return true;
}

static void settle(void) {
    rcumalloc_barrier();
    malloc_trim(0);
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    if (strcmp(argv[1], "idle") == 0) {
        start(idle, NULL);
    }
    unsigned char *block = malloc(200 * MIB);
    CHECK(block != NULL);
    for (size_t at = 0; at < 200 * MIB; at += 4096) {
        block[at] = (unsigned char)(at >> 12);
    }
    int moved = 0;
    for (size_t mib = 120; mib >= 80; mib -= 40) {
        unsigned char *shrunk = realloc(block, mib * MIB);
        moved += shrunk != block;
        block = shrunk;
        CHECK(malloc_usable_size(block) == mib * MIB && intact(block, mib));
        settle();
        char name[32];
        snprintf(name, sizeof name, "rss_%zu_kib", mib);
        PRINT(name, rss_kib());
    }
    /* By steps of a page it would be a great many tails: a little too much is kept, and found again by
     * what grows. */
    for (int step = 0; step < 100; step++) {
        unsigned char *shrunk = realloc(block, 80 * MIB - (size_t)(step % 50) * 4096 - 5000);
        moved += shrunk != block;
        block = shrunk;
    }
    /* Whoever began to read before still finds what was in the tail. */
    rcumalloc_read_lock();
    unsigned char *shrunk = realloc(block, 20 * MIB);
    moved += shrunk != block;
    block = shrunk;
    malloc_trim(0);
    char *others[64];
    for (int i = 0; i < 64; i++) {
        CHECK((others[i] = malloc(MIB)) != NULL);
        memset(others[i], 0xff, MIB);
    }
    /* Where plain frees do not wait there may be nothing to look at. */
    const char *defer = getenv("RCUMALLOC_DEFER");
    PRINT("lost_to_reader", (defer == NULL || strcmp(defer, "api") != 0) && !intact(block, 70));
    rcumalloc_read_unlock();
    for (int i = 0; i < 64; i++) {
        free(others[i]);
    }
    settle();
    CHECK(intact(block, 20));
    PRINT("rss_20_kib", rss_kib());
    PRINT("moved", moved);
    PRINT("hwm_kib", hwm_kib());
    free(block);
    settle();
    PRINT("live_large", stats().live_large_bytes);
    _exit(0);
}
