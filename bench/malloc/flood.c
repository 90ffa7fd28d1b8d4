/* `flood THREADS FLOODERS ROUNDS LIMIT_MIB`: threads that make and free batches of blocks of many sizes,
 * some of them as fast as they can, the others with pauses, while one more watches resident memory every 5
 * ms and reports full pressure while it is over the limit: a control group's limit in small, that needs no
 * rights. Prints wall ms, CPU ms, scans, MiB given by them, refills, refills suppressed, peak MiB. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../preload/include/rcumalloc.h"

enum { BATCH = 1500 };
static int rounds;
static size_t limit_kib;
static volatile int done;

static double ms(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static size_t rss_kib(void) {
    char text[128] = {0};
    int fd = open("/proc/self/statm", O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    char *second = n > 0 ? strchr(text, ' ') : NULL;
    return second ? strtoul(second, NULL, 10) * 4 : 0;
}

static void *watch(void *peak) {
    while (!done) {
        size_t now = rss_kib();
        *(size_t *)peak = now > *(size_t *)peak ? now : *(size_t *)peak;
        if (now > limit_kib && rcumalloc_present()) {
            rcumalloc_pressure(2);
        }
        usleep(5000);
    }
    return NULL;
}

static void batch(unsigned *seed) {
    void *block[BATCH];
    for (int i = 0; i < BATCH; i++) {
        size_t size = 16 + (size_t)rand_r(seed) % (i % 16 ? 400 : 6000);
        block[i] = malloc(size);
        memset(block[i], 1, size);
    }
    for (int i = 0; i < BATCH; i++) {
        free(block[i]);
    }
}

static void *flooder(void *seed) {
    unsigned own = (unsigned)(size_t)seed;
    for (int i = 0; i < rounds; i++) {
        batch(&own);
    }
    return NULL;
}

static void *other(void *seed) {
    unsigned own = (unsigned)(size_t)seed;
    while (!done) {
        batch(&own);
        usleep(20000 + rand_r(&own) % 20000);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 5) {
        return 2;
    }
    int threads = atoi(argv[1]), flooders = atoi(argv[2]);
    rounds = atoi(argv[3]);
    limit_kib = strtoul(argv[4], NULL, 10) << 10;
    pthread_t *thread = calloc((size_t)threads + 1, sizeof *thread);
    size_t peak = 0;
    double wall = ms(CLOCK_MONOTONIC);
    for (long i = 0; i < threads; i++) {
        pthread_create(&thread[i], NULL, i < flooders ? flooder : other, (void *)(i + 1));
    }
    pthread_create(&thread[threads], NULL, watch, &peak);
    for (int i = 0; i < flooders; i++) {
        pthread_join(thread[i], NULL);
    }
    wall = ms(CLOCK_MONOTONIC) - wall;
    done = 1;
    for (int i = flooders; i <= threads; i++) {
        pthread_join(thread[i], NULL);
    }
    struct rcumalloc_stats s = {0};
    if (rcumalloc_present()) {
        rcumalloc_stats(&s, sizeof s);
    }
    printf("%.0f %.0f %llu %llu %llu %llu %zu\n", wall, ms(CLOCK_PROCESS_CPUTIME_ID),
           (unsigned long long)s.scans[RCUMALLOC_REASON_PRESSURE],
           (unsigned long long)s.scanned_bytes[RCUMALLOC_REASON_PRESSURE] >> 20,
           (unsigned long long)s.refills,
           (unsigned long long)s.refills_suppressed, peak >> 10);
    return 0;
}
