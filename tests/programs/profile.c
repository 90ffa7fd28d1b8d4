/* Allocates from known places while a profile is made. What there was in truth is printed, a line for each
 * place, for the test to compare with the dump.
 *
 *   sites DIRECTORY THREADS    from all sorts of calls, blocks that stay and blocks that go
 *   deferred DIRECTORY         blocks that are freed under a section of another thread's
 *   each DIRECTORY             every block is a sample: exactly what is live is in the dump
 *   forked DIRECTORY           the child of a fork has its own
 */
#include "victim.h"

#define SITE __attribute__((noinline, noclone))
enum { SMALL = 48, MIDDLE = 1000, LARGE = 50000, ALIGNED = 200, ZEROED = 300, GROWN = 2000 };
enum { BIG_GROWN = 90000 };

static void *volatile sink;

/* The places: each is a function of its own, which does something with the block behind the call. */
static SITE void *pass_small(void) { void *p = malloc(SMALL); sink = p; return p; }
static SITE void *pass_middle(void) { void *p = malloc(MIDDLE); sink = p; return p; }
static SITE void *keep_small(void) { void *p = malloc(SMALL); sink = p; return p; }
static SITE void *keep_large(void) { void *p = malloc(LARGE); sink = p; return p; }
static SITE void *keep_zeroed(void) { void *p = calloc(1, ZEROED); sink = p; return p; }
static SITE void *keep_aligned(void) { void *p = aligned_alloc(64, ALIGNED / 64 * 64); sink = p; return p; }
static SITE void *keep_grown(void *old) { void *p = realloc(old, GROWN); sink = p; return p; }
static SITE void *keep_big_grown(void *old) { void *p = realloc(old, BIG_GROWN); sink = p; return p; }

struct site {
    const char *name;
    void *function;
    size_t bytes;
    uint64_t allocated, live;
};

static struct site sites[] = {
    {"pass_small", pass_small, SMALL, 0, 0},
    {"pass_middle", pass_middle, MIDDLE, 0, 0},
    {"keep_small", keep_small, SMALL, 0, 0},
    {"keep_large", keep_large, LARGE, 0, 0},
    {"keep_zeroed", keep_zeroed, ZEROED, 0, 0},
    {"keep_aligned", keep_aligned, ALIGNED / 64 * 64, 0, 0},
    {"keep_grown", keep_grown, GROWN, 0, 0},
    {"keep_big_grown", keep_big_grown, BIG_GROWN, 0, 0},
};
enum { SITES = sizeof sites / sizeof sites[0] };

static void tell(void) {
    for (int i = 0; i < SITES; i++) {
        dprintf(1, "site %s 0x%llx %zu %llu %llu\n", sites[i].name,
                (unsigned long long)(uintptr_t)sites[i].function, sites[i].bytes,
                (unsigned long long)sites[i].allocated, (unsigned long long)sites[i].live);
    }
}

static void dump(const char *directory, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    CHECK(fd >= 0 && rcumalloc_profile_write(fd));
    close(fd);
}

static void count(int site, bool stays) {
    __atomic_fetch_add(&sites[site].allocated, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&sites[site].live, stays, __ATOMIC_RELAXED);
}

static void *work(void *rounds) {
    for (uintptr_t i = 0; i < (uintptr_t)rounds; i++) {
        for (int j = 0; j < 4; j++) {
            free(pass_small());
            count(0, false);
        }
        free(pass_middle());
        count(1, false);
        CHECK(keep_small() != NULL);
        count(2, true);
        if (i % 50 == 0) {
            CHECK(keep_large() != NULL);
            count(3, true);
        }
        /* Two of three go. */
        char *zeroed = keep_zeroed();
        for (int at = 0; at < ZEROED; at++) {
            CHECK(zeroed[at] == 0);
        }
        memset(zeroed, 1, ZEROED);
        count(4, i % 3 == 0);
        if (i % 3 != 0) {
            free(zeroed);
        }
        void *aligned = keep_aligned();
        CHECK((uintptr_t)aligned % 64 == 0);
        count(5, true);
        if (i % 8 == 0) {
            char *grown = malloc(100);
            memset(grown, 7, 100);
            grown = keep_grown(grown);
            CHECK(grown[99] == 7 && malloc_usable_size(grown) >= GROWN);
            count(6, i % 16 == 0);
            if (i % 16 != 0) {
                free(grown);
            }
        }
        if (i % 200 == 0) {
            char *grown = malloc(40000);
            memset(grown, 7, 40000);
            grown = keep_big_grown(grown);
            CHECK(grown[39999] == 7);
            count(7, true);
        }
    }
    return NULL;
}

static void run_sites(const char *directory, int threads) {
    enum { MOST = 8, ROUNDS = 40000 };
    pthread_t others[MOST];
    CHECK(threads <= MOST && rcumalloc_profile_start(64 << 10) && !rcumalloc_profile_start(64 << 10));
    for (int i = 1; i < threads; i++) {
        others[i] = start(work, (void *)(uintptr_t)(ROUNDS / threads));
    }
    work((void *)(uintptr_t)(ROUNDS / threads));
    for (int i = 1; i < threads; i++) {
        join(others[i]);
    }
    CHECK(rcumalloc_profile_stop() && !rcumalloc_profile_stop());
    /* What comes after the end is in no profile. */
    for (int i = 0; i < 10000; i++) {
        CHECK(keep_small() != NULL);
    }
    dump(directory, "sites");
}

static pthread_barrier_t step;

static void *hold(void *unused) {
    (void)unused;
    rcumalloc_read_lock();
    pthread_barrier_wait(&step);
    pthread_barrier_wait(&step);
    rcumalloc_read_unlock();
    pthread_barrier_wait(&step);
    return NULL;
}

static void run_deferred(const char *directory) {
    enum { KEPT = 3000 };
    static void *kept[KEPT];
    CHECK(rcumalloc_profile_start(4096));
    for (int i = 0; i < KEPT; i++) {
        kept[i] = i % 2 == 0 ? keep_zeroed() : keep_large();
        count(i % 2 == 0 ? 4 : 3, true);
    }
    dump(directory, "live");
    pthread_barrier_init(&step, NULL, 2);
    pthread_t reader = start(hold, NULL);
    pthread_barrier_wait(&step);
    for (int i = 0; i < KEPT; i++) {
        free(kept[i]);
    }
    dump(directory, "deferred");
    pthread_barrier_wait(&step);
    pthread_barrier_wait(&step);
    rcumalloc_synchronize_expedited();
    dump(directory, "gone");
    join(reader);
}

/* The blocks that are live, by address and size. */
static void tell_block(void *block, size_t size) {
    dprintf(1, "block 0x%llx %zu\n", (unsigned long long)(uintptr_t)block, size);
}

static void run_each(const char *directory) {
    enum { BLOCKS = 700 };
    static void *block[BLOCKS];
    static size_t size[BLOCKS];
    CHECK(rcumalloc_profile_start(1));
    for (int i = 0; i < BLOCKS; i++) {
        size[i] = 40 + (size_t)i * 53 % 20000;
        switch (i % 5) {
        case 0: block[i] = malloc(size[i]); break;
        case 1: block[i] = calloc(1, size[i]); break;
        case 2: CHECK(posix_memalign(&block[i], 256, size[i]) == 0); break;
        case 3: block[i] = realloc(malloc(1000), size[i]); break;
        default: block[i] = realloc(malloc(100000), size[i] += 80000); break;
        }
        memset(block[i], i, size[i]);
    }
    for (int i = 0; i < BLOCKS; i++) {
        CHECK(((unsigned char *)block[i])[size[i] - 1] == (unsigned char)i);
        switch (i % 7) {
        case 0: free(block[i]); break;
        case 1: rcumalloc_free(block[i]); break;
        case 2: rcumalloc_free_now(block[i]); break;
        case 3: block[i] = realloc(block[i], size[i] += 16); tell_block(block[i], size[i]); break;
        default: tell_block(block[i], size[i]);
        }
    }
    /* So long that they are mappings of their own. */
    enum { HUGE_BYTES = 40 << 20 };
    void *huge = malloc(HUGE_BYTES), *gone = malloc(HUGE_BYTES);
    CHECK(huge != NULL && gone != NULL);
    tell_block(huge, HUGE_BYTES);
    free(gone);
    dump(directory, "each");
}

static void run_forked(const char *directory) {
    CHECK(rcumalloc_profile_start(1));
    void *both = keep_large(), *gone = keep_large();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        free(gone);
        void *own = keep_small();
        tell_block(own, SMALL);
        tell_block(both, LARGE);
        dump(directory, "child");
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    dump(directory, "parent");
    dprintf(1, "parent 0x%llx 0x%llx\n", (unsigned long long)(uintptr_t)both,
            (unsigned long long)(uintptr_t)gone);
}

int main(int argc, char **argv) {
    CHECK(argc >= 3);
    CHECK(!rcumalloc_profile_stop());
    if (strcmp(argv[1], "sites") == 0) {
        run_sites(argv[2], atoi(argv[3]));
        tell();
    } else if (strcmp(argv[1], "deferred") == 0) {
        run_deferred(argv[2]);
        tell();
    } else if (strcmp(argv[1], "each") == 0) {
        run_each(argv[2]);
    } else {
        run_forked(argv[2]);
    }
    return 0;
}
