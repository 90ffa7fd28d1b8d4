/* glibc's second names, which programs call that wrap malloc, mixed with the first ones: each block is of
 * one heap. */
#include "victim.h"

extern void *__libc_malloc(size_t);
extern void __libc_free(void *);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void *__libc_valloc(size_t);
extern void *__libc_pvalloc(size_t);
extern int __libc_mallopt(int, int);
extern struct mallinfo __libc_mallinfo(void);
__attribute__((weak)) int __posix_memalign(void **, size_t, size_t);

static void *nothing(void *unused) { return unused; }

static void mix(size_t size) {
    void *block[] = {__libc_malloc(size),
                     __libc_calloc(1, size),
                     __libc_realloc(NULL, size),
                     __libc_memalign(256, size),
                     __libc_valloc(size),
                     __libc_pvalloc(size),
                     malloc(size),
                     memalign(64, size),
                     calloc(size, 1)};
    enum { BLOCKS = sizeof block / sizeof *block };
    for (int i = 0; i < BLOCKS; i++) {
        CHECK(block[i] != NULL && malloc_usable_size(block[i]) >= size);
        if (rcumalloc_present()) {
            struct rcumalloc_block found;
            CHECK(rcumalloc_owner(block[i], &found, sizeof found) && found.start == block[i]);
        }
    }
    CHECK((uintptr_t)block[3] % 256 == 0 && (uintptr_t)block[4] % 4096 == 0 &&
        (uintptr_t)block[5] % 4096 == 0);
    for (int i = 0; i < BLOCKS; i++) {
        fill(block[i], size, i);
        void *before = block[i];
        block[i] = i % 2 ? realloc(block[i], size * 2 + 1) : __libc_realloc(block[i], size * 2 + 1);
        CHECK(block[i] != NULL && (block[i] != before || filled(block[i], size, i)));
    }
    for (int i = 0; i < BLOCKS; i++) {
        if (i % 3 == 0) {
            free(block[i]);
        } else {
            __libc_free(block[i]);
        }
    }
}

int main(void) {
    for (int threads = 0; threads < 2; threads++) {
        for (int round = 0; round < 10; round++) {
            for (size_t size = 1; size < 2000000; size += size / 2 + 1) {
                mix(size);
            }
        }
        join(start(nothing, NULL));
    }
    CHECK(__libc_mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
    void *block = malloc(100000);
    CHECK(__libc_mallinfo().uordblks + __libc_mallinfo().hblkhd >= 100000);
    free(block);
    if (__posix_memalign != NULL) {
        CHECK(__posix_memalign(&block, 64, 100) == 0 && (uintptr_t)block % 64 == 0);
        free(block);
    }
    if (rcumalloc_present()) {
        CHECK(__posix_memalign != NULL && stats().bad_calls == 0);
    }
    dprintf(1, "done\n");
}
