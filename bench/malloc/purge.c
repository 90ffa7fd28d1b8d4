/* `purge`: what giving a page back and touching it again costs, by MADV_DONTNEED and by MADV_FREE, in
 * stretches of several lengths: CPU ns a page for the call and for touching it again, and how much of it
 * was still resident after the call (percent). */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static double ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(void) {
    const size_t total = 64 << 20, pages = total / 4096;
    static unsigned char resident[64 << 8];
    printf("advice stretch_kib call_ns touch_ns resident_percent\n");
    for (int round = 0; round < 2; round++) {
        for (int advice = 0; advice < 2; advice++) {
            const size_t lengths[] = {4096, 65536, 1 << 20, 4 << 20};
            for (int l = 0; l < 4; l++) {
                char *at = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                madvise(at, total, MADV_NOHUGEPAGE);
                memset(at, 1, total);
                double start = ns();
                for (size_t o = 0; o < total; o += lengths[l]) {
                    madvise(at + o, lengths[l], advice ? MADV_FREE : MADV_DONTNEED);
                }
                double called = ns();
                mincore(at, total, resident);
                size_t left = 0;
                for (size_t i = 0; i < pages; i++) {
                    left += resident[i] & 1;
                }
                double begin = ns();
                for (size_t i = 0; i < pages; i++) {
                    at[i * 4096] = 1;
                }
                double end = ns();
                munmap(at, total);
                if (round > 0) { /* the first warms up */
                    printf("%s %zu %.0f %.0f %zu\n", advice ? "free" : "dontneed", lengths[l] >> 10,
                           (called - start) / (double)pages, (end - begin) / (double)pages,
                           left * 100 / pages);
                }
            }
        }
    }
}
