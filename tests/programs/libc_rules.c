/* `libc_rules RULE [glibc]`: what the standards and glibc's manual promise, rule by rule. With
 * "glibc" the same program runs without the library, to be sure that the rule is glibc's. */
#include "victim.h"

static bool ours;

/* Stops the compiler from knowing what is asked for. */
static size_t opaque(size_t n) {
    __asm__("" : "+r"(n));
    return n;
}

#define KEEPS_ERRNO(call)                                                                          \
    do {                                                                                           \
        errno = 12345;                                                                             \
        call;                                                                                      \
        CHECK(errno == 12345);                                                                     \
    } while (0)

static void rule_errno(void) {
    enum { MANY = 3000 };
    static void *block[MANY];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++) {
            size_t size = i % 100 == 0 ? (size_t)i * 1000 : (size_t)i;
            KEEPS_ERRNO(block[i] = i % 3 ? malloc(size) : calloc(1, size));
            CHECK(block[i] != NULL);
        }
        for (int i = 0; i < MANY; i++) {
            KEEPS_ERRNO(block[i] = realloc(block[i], i * 3 + 1));
            KEEPS_ERRNO(malloc_usable_size(block[i]));
        }
        for (int i = 0; i < MANY; i++) {
            KEEPS_ERRNO(free(block[i]));
        }
        void *aligned;
        KEEPS_ERRNO(CHECK(posix_memalign(&aligned, 4096, 100) == 0));
        KEEPS_ERRNO(free(aligned));
        KEEPS_ERRNO(free(aligned_alloc(256, 256)));
        KEEPS_ERRNO(free(valloc(1)));
        KEEPS_ERRNO(free(NULL));
        if (ours) {
            KEEPS_ERRNO(malloc_trim(0));
            KEEPS_ERRNO(mallinfo2());
            KEEPS_ERRNO(rcumalloc_read_lock());
            KEEPS_ERRNO(rcumalloc_read_unlock());
            KEEPS_ERRNO(rcumalloc_synchronize());
            KEEPS_ERRNO(rcumalloc_synchronize_expedited());
            KEEPS_ERRNO(rcumalloc_barrier());
            KEEPS_ERRNO(rcumalloc_shrink_scan(1 << 20));
            KEEPS_ERRNO(rcumalloc_free(malloc(10)));
            KEEPS_ERRNO(stats());
        }
    }
    /* A failure says why, and posix_memalign in its own way. */
    void *none = &none;
    errno = 0;
    CHECK(malloc(opaque(SIZE_MAX)) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(malloc(opaque((size_t)1 << 62)) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(malloc(opaque((size_t)PTRDIFF_MAX + 1)) == NULL && errno == ENOMEM);
    void *kept = malloc(100);
    memset(kept, 7, 100);
    errno = 0;
    CHECK(realloc(kept, opaque(SIZE_MAX - 100)) == NULL && errno == ENOMEM);
    CHECK(((char *)kept)[99] == 7); /* the old block is still there */
    free(kept);
    kept = malloc(200000);
    memset(kept, 7, 200000);
    errno = 0;
    CHECK(realloc(kept, opaque(SIZE_MAX - 100)) == NULL && errno == ENOMEM);
    CHECK(((char *)kept)[199999] == 7);
    free(kept);
    errno = 0;
    CHECK(aligned_alloc(64, opaque(SIZE_MAX - 100)) == NULL && errno == ENOMEM);
    errno = 12345;
    CHECK(posix_memalign(&none, 64, opaque(SIZE_MAX - 100)) == ENOMEM && none == &none);
    CHECK(errno == ENOMEM); /* not POSIX's rule, but glibc's, and programs go by it */
    errno = 12345;
    CHECK(posix_memalign(&none, opaque(24), 100) == EINVAL && errno == 12345 && none == &none);
    CHECK(posix_memalign(&none, opaque(4), 100) == EINVAL && errno == 12345 && none == &none);
    CHECK(posix_memalign(&none, opaque(0), 100) == EINVAL && errno == 12345 && none == &none);
    errno = 0;
    CHECK(valloc(opaque(SIZE_MAX - 100)) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(pvalloc(opaque(SIZE_MAX - 100)) == NULL && errno == ENOMEM);
}

static void rule_alignment(void) {
    for (size_t size = 0; size < 5000; size += size < 600 ? 1 : 97) {
        void *block[5] = {malloc(size), calloc(1, size), realloc(NULL, size), calloc(size, 1), malloc(size)};
        for (int i = 0; i < 5; i++) {
            CHECK(block[i] != NULL && (uintptr_t)block[i] % 16 == 0);
            block[i] = realloc(block[i], size * 2 + 1);
            CHECK(block[i] != NULL && (uintptr_t)block[i] % 16 == 0);
            free(block[i]);
        }
    }
    static const size_t sizes[] = {0, 1, 15, 16, 17, 63, 64, 100, 1000, 4095, 4096, 4097, 32768, 40000,
        300000};
    for (size_t align = 1; align <= (size_t)64 << 20; align *= 2) {
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            size_t size = sizes[s];
            void *block[3] = {aligned_alloc(align, size), memalign(align, size), NULL};
            if (align >= sizeof(void *)) {
                CHECK(posix_memalign(&block[2], align, size) == 0);
            } else {
                block[2] = malloc(size);
            }
            for (int i = 0; i < 3; i++) {
                CHECK(block[i] != NULL && (uintptr_t)block[i] % align == 0);
                CHECK(malloc_usable_size(block[i]) >= size);
                memset(block[i], (int)s, size);
            }
            for (int i = 0; i < 3; i++) {
                for (size_t at = 0; at < size; at += 61) {
                    CHECK(((unsigned char *)block[i])[at] == s);
                }
                free(block[i]);
            }
        }
    }
    void *page = valloc(1), *pages = pvalloc(4097);
    CHECK((uintptr_t)page % 4096 == 0 && (uintptr_t)pages % 4096 == 0);
    CHECK(malloc_usable_size(pages) >= 8192);
    memset(pages, 1, 8192);
    free(page);
    free(pages);
    /* Not a power of two: memalign rounds up, aligned_alloc refuses or rounds. */
    void *odd = memalign(opaque(48), 100);
    CHECK(odd != NULL && (uintptr_t)odd % 64 == 0);
    free(odd);
}

static void rule_usable(void) {
    enum { SIZES = 700 };
    static unsigned char *block[SIZES];
    static size_t usable[SIZES];
    for (int i = 0; i < SIZES; i++) {
        size_t size = i < 600 ? (size_t)i * 3 : (size_t)(i - 600) * 3001;
        block[i] = malloc(size);
        usable[i] = malloc_usable_size(block[i]);
        CHECK(usable[i] >= size);
        memset(block[i], i & 0xff, usable[i]); /* all of it is the program's */
    }
    for (int i = 0; i < SIZES; i++) {
        CHECK(malloc_usable_size(block[i]) == usable[i]);
        for (size_t at = 0; at < usable[i]; at++) {
            CHECK(block[i][at] == (i & 0xff));
        }
        unsigned char *same = realloc(block[i], usable[i]);
        CHECK(!ours || same == block[i]); /* what fits stays where it is */
        free(same);
    }
    CHECK(malloc_usable_size(NULL) == 0);
}

static void rule_realloc(void) {
    char *block = realloc(NULL, 0);
    CHECK(block != NULL);
    block = realloc(block, 0);
    CHECK(block == NULL);
    block = reallocarray(NULL, 0, 16);
    CHECK(block != NULL);
    CHECK(reallocarray(block, 0, 16) == NULL);
    errno = 0;
    CHECK(reallocarray(NULL, opaque(SIZE_MAX / 2), 3) == NULL && errno == ENOMEM);
    block = malloc(100);
    memset(block, 3, 100);
    errno = 0;
    CHECK(reallocarray(block, opaque(SIZE_MAX / 2), 3) == NULL && errno == ENOMEM && block[99] == 3);
    /* Up and down through every size keeps the content. */
    size_t size = 100;
    for (int up = 1; up >= 0; up--) {
        for (int step = 0; step < 60; step++) {
            size_t next = up ? size + size / 4 + 7 : size - size / 5 - 3;
            if (next > (size_t)64 << 20 || next < 20) {
                break;
            }
            block = realloc(block, next);
            CHECK(block != NULL);
            size_t kept = next < size ? next : size;
            for (size_t at = 0; at < kept; at += kept > 5000 ? 509 : 1) {
                CHECK(block[at] == 3);
            }
            CHECK(block[kept - 1] == 3);
            memset(block, 3, next);
            size = next;
        }
    }
    free(block);
}

static void rule_zero(void) {
    enum { MANY = 1000 };
    void *block[MANY];
    for (int i = 0; i < MANY; i++) {
        block[i] = i % 4 == 0 ? malloc(0) : i % 4 == 1 ? calloc(0, 8) : i % 4 == 2 ? calloc(8, 0)
            : realloc(NULL, 0);
        CHECK(block[i] != NULL);
        for (int j = 0; j < i; j++) {
            CHECK(block[i] != block[j]); /* each one is a block of its own */
        }
    }
    for (int i = 0; i < MANY; i++) {
        free(block[i]);
    }
    void *aligned = aligned_alloc(64, 0);
    CHECK(aligned != NULL);
    free(aligned);
    aligned = NULL;
    CHECK(posix_memalign(&aligned, 64, 0) == 0);
    free(aligned);
}

static void rule_calloc(void) {
    static const size_t counts[] = {SIZE_MAX, SIZE_MAX / 2 + 1, (size_t)1 << 33, (size_t)1 << 32};
    for (int i = 0; i < 4; i++) {
        errno = 0;
        CHECK(calloc(counts[i], opaque((size_t)1 << 32)) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(calloc(opaque((size_t)1 << 32), counts[i]) == NULL && errno == ENOMEM);
    }
    /* Zeros, also where the memory was used before. */
    for (int round = 0; round < 50; round++) {
        for (size_t size = 1; size < 300000; size += size / 2 + 1) {
            unsigned char *block = calloc(1, size);
            CHECK(block != NULL);
            for (size_t at = 0; at < size; at++) {
                CHECK(block[at] == 0);
            }
            memset(block, 0xff, malloc_usable_size(block));
            free(block);
        }
    }
}

static void rule_info(void) {
    void *block = malloc(1000000);
    struct mallinfo2 info = mallinfo2();
    CHECK(info.uordblks + info.hblkhd >= 1000000);
    free(block);
    CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
    // glibc takes what it does not know for done, too.
    CHECK(mallopt(0, 0) == 1 && mallopt(-99, 1) == 1);
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    CHECK(stream != NULL);
    CHECK(malloc_info(0, stream) == 0);
    CHECK(fclose(stream) == 0);
    CHECK(strncmp(text, "<malloc version=", 16) == 0 && strstr(text, "</malloc>") != NULL);
    free(text);
    int error = malloc_info(1, stderr);
    CHECK(error == EINVAL);
    malloc_trim(0);
}

int main(int argc, char **argv) {
    ours = rcumalloc_present();
    static const struct {
        const char *name;
        void (*check)(void);
    } rules[] = {{"errno", rule_errno},     {"alignment", rule_alignment}, {"usable", rule_usable},
                 {"realloc", rule_realloc}, {"zero", rule_zero},           {"calloc", rule_calloc},
                 {"info", rule_info}};
    CHECK(argc == 2);
    for (unsigned i = 0; i < sizeof rules / sizeof *rules; i++) {
        if (strcmp(rules[i].name, argv[1]) == 0) {
            rules[i].check();
            dprintf(1, "done\n");
            return 0;
        }
    }
    CHECK(!"a rule of that name");
}
