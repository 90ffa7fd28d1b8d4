/* `bursts SECONDS EVERY_MS MIB`: a server in small: something little all the time, and every so often so
 * many MiB of blocks of many sizes for one request. Prints CPU ms, mean MiB resident (looked at every 20
 * ms), minor faults. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double ms(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double rss_mib(void) {
    char text[128] = {0};
    int fd = open("/proc/self/statm", O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    char *second = n > 0 ? strchr(text, ' ') : NULL;
    return second ? (double)strtoul(second, NULL, 10) / 256 : 0;
}

static void request(size_t bytes) {
    static void *block[1 << 20];
    size_t count = 0;
    for (size_t have = 0; have < bytes && count < 1 << 20; count++) {
        size_t size = 16 + (size_t)random() % (count % 64 ? 400 : 60000);
        block[count] = malloc(size);
        memset(block[count], 1, size);
        have += size;
    }
    while (count > 0) {
        free(block[--count]);
    }
}

int main(int argc, char **argv) {
    if (argc < 4) {
        return 2;
    }
    double end = ms(CLOCK_MONOTONIC) + atof(argv[1]) * 1e3, every = atof(argv[2]), next = 0, sum = 0;
    int looks = 0;
    for (double now; (now = ms(CLOCK_MONOTONIC)) < end; looks++) {
        request(256 << 10);
        if (now >= next) {
            next = now + every;
            request(strtoul(argv[3], NULL, 10) << 20);
        }
        sum += rss_mib();
        usleep(20000);
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("%.0f %.1f %ld\n", ms(CLOCK_PROCESS_CPUTIME_ID), sum / looks, used.ru_minflt);
    return 0;
}
