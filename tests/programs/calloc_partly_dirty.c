/* `calloc_partly_dirty solo|idle`. What calloc gives is zero, and of its pages only those that held
 * something else are written: a large block of which a part was used before becomes no more resident than
 * that part was. */
#include "victim.h"

enum { MIB = 1 << 20, USED = 8 * MIB };
static const size_t LARGE = 1ul << 30;

static void *idle(void *unused) {
    pause();
    return unused;
}

/* Frees a block of which every byte was written, and waits until its pages may be handed out. */
static void soil(size_t bytes) {
    char *block = malloc(bytes);
    CHECK(block != NULL);
    memset(block, 0xff, bytes);
    free(block);
    rcumalloc_barrier();
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    if (strcmp(argv[1], "idle") == 0) {
        start(idle, NULL);
    }
    soil(USED);
    long before = rss_kib();
    unsigned char *table = calloc(1, LARGE);
    CHECK(table != NULL);
    long growth = rss_kib() - before;
    PRINT("growth_kib", growth > 0 ? growth : 0);
    int not_zero = 0;
    /* the part that was used is its beginning, or calloc wrote nothing */
    for (size_t at = 0; at < 2 * USED; at++) {
        not_zero += table[at] != 0;
    }
    for (size_t at = 0; at < LARGE; at += 16 * MIB + 4096) {
        not_zero += table[at] != 0;
    }
    PRINT("not_zero", not_zero);
    free(table);
    rcumalloc_barrier();
    malloc_trim(0);
    /* Dirty here and there: whole pages, whole words of a bitmap, across the edge of a unit. */
    enum { SMALLER = 6 * MIB, PAGE = 4096 };
    unsigned char *block = malloc(SMALLER);
    CHECK(block != NULL);
    memset(block, 0xff, SMALLER);
    free(block);
    rcumalloc_barrier();
    for (int round = 1; round < 20; round++) {
        size_t bytes = (size_t)SMALLER + (size_t)round * 37 * PAGE;
        block = calloc(1, bytes);
        CHECK(block != NULL);
        for (size_t at = 0; at < bytes; at++) {
            CHECK(block[at] == 0);
        }
        for (size_t at = 0; at < bytes; at += (size_t)(round % 9 + 1) * PAGE) {
            block[at + (size_t)(round * 97 % PAGE)] = 0xff;
        }
        free(block);
        rcumalloc_barrier();
        if (round % 3 == 0) {
            malloc_trim(0);
        }
    }
    _exit(0);
}
