/* `own_allocator_api_linked CASE`, linked with another allocator (other_allocator.c, or jemalloc itself),
 * whose functions the program finds as weak symbols: they are this heap's, as malloc is, and mean what
 * jemalloc's manual says.
 *
 * CASE: mixed, sizes, zeros, rallocx, xallocx, failure: what must hold, under jemalloc, too. foreign CALL:
 * a bad address. wrong_size, wrong_size_large, wrong_align: for sdallocx. With a second word `threads`
 * beside a second thread. */
#include "victim.h"

__attribute__((weak)) void *mallocx(size_t, int);
__attribute__((weak)) void *rallocx(void *, size_t, int);
__attribute__((weak)) size_t xallocx(void *, size_t, size_t, int);
__attribute__((weak)) size_t sallocx(const void *, int);
__attribute__((weak)) void dallocx(void *, int);
__attribute__((weak)) void sdallocx(void *, size_t, int);
__attribute__((weak)) size_t nallocx(size_t, int);
__attribute__((weak)) size_t malloc_size(const void *);
__attribute__((weak)) size_t malloc_good_size(size_t);

enum { ZERO = 0x40, NO_TCACHE = 1 << 8, ARENA_0 = 1 << 20 };
static int lg_align(int lg) { return lg; }
static size_t opaque(size_t n) {
    __asm__("" : "+r"(n));
    return n;
}

static const size_t sizes[] = {1, 8, 16, 17, 100, 128, 129, 1000, 2048, 4096, 5000, 16384, 16385, 40000,
    100000, 300001, 5000000};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void *nothing(void *unused) { return unused; }

/* A block of one function goes to any other's. */
static void mixed(void) {
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < SIZES; i++) {
            size_t size = sizes[i];
            free(mallocx(size, 0));
            dallocx(malloc(size), 0);
            dallocx(calloc(1, size), NO_TCACHE | ARENA_0);
            sdallocx(malloc(size), size, 0);
            sdallocx(memalign(64, size), size, lg_align(6));
            dallocx(realloc(mallocx(size, lg_align(5)), size / 2 + 1), 0);
            free(rallocx(malloc(size), size + 100, 0));
            char *block = mallocx(size, NO_TCACHE);
            CHECK(malloc_usable_size(block) == sallocx(block, 0));
            fill(block, sallocx(block, 0), i);
            CHECK(filled(block, sallocx(block, 0), i));
            sdallocx(block, sallocx(block, 0), 0);
        }
    }
}

/* nallocx tells what mallocx gives, for every alignment; and sdallocx takes any size from the one asked to
 * the real one. */
static void sizes_and_alignments(void) {
    for (int round = 0; round < 3; round++) {
        for (int lg = 0; lg <= 22; lg++) {
            for (int i = 0; i < SIZES; i++) {
                for (int zero = 0; zero < 2; zero++) {
                    int flags = lg_align(lg) | (zero ? ZERO : 0);
                    char *block = mallocx(sizes[i], flags);
                    CHECK(block != NULL && (uintptr_t)block % ((size_t)1 << lg) == 0);
                    size_t real = sallocx(block, flags);
                    CHECK(real == nallocx(sizes[i], flags) && real >= sizes[i]);
                    CHECK(nallocx(real, flags) == real);
                    block[0] = block[real - 1] = 1;
                    sdallocx(block, i % 3 == 0 ? sizes[i] : i % 3 == 1 ? real : (sizes[i] + real) / 2, flags);
                }
            }
        }
    }
    CHECK(nallocx(opaque(SIZE_MAX), 0) == 0 && nallocx(opaque((size_t)PTRDIFF_MAX + 1), 0) == 0);
    CHECK(nallocx(1, 63) == 0 && mallocx(1, 63) == NULL);
    CHECK(mallocx(opaque(SIZE_MAX), 0) == NULL && mallocx(opaque((size_t)PTRDIFF_MAX + 1), ZERO) == NULL);
}

static bool all_zero(const char *bytes, size_t from, size_t to) {
    for (size_t at = from; at < to; at++) {
        if (bytes[at] != 0) {
            return false;
        }
    }
    return true;
}

/* All of a block is zero, and what a growth adds to the old real size. */
static void zeros(void) {
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < SIZES; i++) {
            for (int lg = 0; lg <= 6; lg += 6) {
                char *block = mallocx(sizes[i], lg_align(lg) | ZERO);
                size_t real = sallocx(block, 0);
                CHECK(all_zero(block, 0, real));
                memset(block, 0xa5, real);
                block = rallocx(block, real + 1, lg_align(lg) | ZERO);
                size_t more = sallocx(block, 0);
                CHECK(more > real && (unsigned char)block[real - 1] == 0xa5 && all_zero(block, real, more));
                size_t most = xallocx(block, more + 5000, 3, lg_align(lg) | ZERO);
                CHECK(most == sallocx(block, 0) && most >= more && all_zero(block, real, most));
                memset(block, 0x5a, most);
                dallocx(block, lg_align(lg));
            }
        }
    }
}

static void rallocx_is_exact(void) {
    for (int i = 0; i < SIZES; i++) {
        for (int j = 0; j < SIZES; j++) {
            for (int lg = 0; lg <= 13; lg += 13) {
                unsigned char *block = mallocx(sizes[i], 0);
                memset(block, i + 1, sizes[i]);
                block = rallocx(block, sizes[j], lg_align(lg));
                CHECK(block != NULL && (uintptr_t)block % ((size_t)1 << lg) == 0);
                /* A large block that shrinks beside other threads may keep some of its tail. */
                size_t real = sallocx(block, 0);
                CHECK(real == nallocx(sizes[j], lg_align(lg)) || (sizes[j] < sizes[i] && sizes[j] > 16384));
                size_t kept = sizes[i] < sizes[j] ? sizes[i] : sizes[j];
                CHECK(block[0] == i + 1 && memcmp(block, block + 1, kept - 1) == 0);
                dallocx(block, 0);
            }
        }
    }
    /* A size within the block's own leaves it where it is. */
    char *block = mallocx(100, 0);
    CHECK(rallocx(block, sallocx(block, 0), 0) == block);
    dallocx(block, 0);
}

static void xallocx_stays(void) {
    char *block = mallocx(100, 0);
    size_t real = sallocx(block, 0);
    CHECK(xallocx(block, 10000, 0, 0) == real && xallocx(block, real, 50000, 0) == real &&
        xallocx(block, 1, 0, 0) == real);
    CHECK(sallocx(block, 0) == real);
    dallocx(block, 0);
    /* At its least, at its most, or as it was. */
    for (size_t size = 20000; size < 3000000; size += size / 3) {
        block = mallocx(size, 0);
        memset(block, 7, size);
        real = sallocx(block, 0);
        size_t at_least = size + 100000, extra = 70000;
        size_t now = xallocx(block, at_least, extra, 0);
        CHECK(now == sallocx(block, 0) && (now == real || now >= nallocx(at_least, 0)));
        CHECK(now <= nallocx(at_least + extra, 0));
        CHECK(block[0] == 7 && memcmp(block, block + 1, size - 1) == 0);
        /* What lies between is left. */
        CHECK(xallocx(block, now - 10000, 20000, 0) >= now);
        now = sallocx(block, 0);
        /* It may give back its tail. */
        size_t less = xallocx(block, 17000, 0, 0);
        CHECK(less == sallocx(block, 0) && less <= now && less >= nallocx(17000, 0));
        CHECK(block[0] == 7 && memcmp(block, block + 1, 16999) == 0);
        /* the most there can be is refused, not wrapped */
        CHECK(xallocx(block, 17000, SIZE_MAX - 17000, 0) >= less);
        sdallocx(block, sallocx(block, 0), 0);
    }
}

static void failure(void) {
    char *block = mallocx(100, 0), *large = mallocx(200000, 0);
    memset(block, 3, 100);
    memset(large, 3, 200000);
    errno = 12345;
    CHECK(rallocx(block, opaque((size_t)1 << 62), 0) == NULL &&
        rallocx(large, opaque((size_t)1 << 62), ZERO) == NULL);
    CHECK(rallocx(block, opaque(SIZE_MAX), 0) == NULL && mallocx(opaque((size_t)1 << 60), 0) == NULL);
    CHECK(errno == 12345);
    CHECK(memcmp(block, block + 1, 99) == 0 && memcmp(large, large + 1, 199999) == 0);
    dallocx(block, 0);
    dallocx(large, 0);
}

static void macos_names(void) {
    CHECK(malloc_good_size(100) >= 100 && malloc_good_size(opaque(SIZE_MAX)) == SIZE_MAX);
    char *block = malloc(malloc_good_size(1000)), *large = malloc(100000);
    CHECK(malloc_size(block) == malloc_good_size(1000) && malloc_size(large) >= 100000);
    int on_stack = 0;
    CHECK(malloc_size(NULL) == 0 && malloc_size(&on_stack) == 0 && malloc_size(block + 16) == 0);
    CHECK(malloc_size(large + 4096) == 0);
    free(block);
    free(large);
    CHECK(malloc_size(large) == 0);
}

static void *announce(void *block) {
    dprintf(1, "address %#llx\n", (unsigned long long)(uintptr_t)block);
    return block;
}

static void foreign(const char *call) {
    void *mapping = announce(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (strcmp(call, "rallocx") == 0) {
        CHECK(rallocx(mapping, 100, 0) == NULL);
    } else if (strcmp(call, "xallocx") == 0) {
        CHECK(xallocx(mapping, 100, 0, 0) == 0);
    } else if (strcmp(call, "sallocx") == 0) {
        CHECK(sallocx(mapping, 0) == 0);
    } else if (strcmp(call, "dallocx") == 0) {
        dallocx(mapping, 0);
    } else {
        sdallocx(mapping, 100, 0);
    }
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*check)(void);
    } cases[] = {{"mixed", mixed},      {"sizes", sizes_and_alignments}, {"zeros", zeros},
                 {"rallocx", rallocx_is_exact}, {"xallocx", xallocx_stays},      {"failure", failure},
                 {"macos", macos_names}};
    CHECK(argc >= 2 && mallocx && rallocx && xallocx && sallocx && dallocx && sdallocx && nallocx);
    if (argc == 3 && strcmp(argv[2], "threads") == 0) {
        join(start(nothing, NULL));
    }
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (strcmp(cases[i].name, argv[1]) == 0) {
            cases[i].check();
            dprintf(1, "done\n");
            return 0;
        }
    }
    if (strcmp(argv[1], "foreign") == 0) {
        foreign(argv[2]);
    } else if (strcmp(argv[1], "wrong_size") == 0) {
        sdallocx(announce(malloc(100)), 200, 0);
    } else if (strcmp(argv[1], "wrong_size_large") == 0) {
        sdallocx(announce(malloc(100000)), 110000, 0);
    } else if (strcmp(argv[1], "wrong_align") == 0) {
        sdallocx(announce(malloc(100)), 100, lg_align(6));
    } else {
        CHECK(!"a case of that name");
    }
    PRINT("bad_calls", stats().bad_calls);
}
