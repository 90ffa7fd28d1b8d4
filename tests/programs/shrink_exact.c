/* `shrink_exact`: what rcumalloc_shrink_scan says it gave is what the kernel says is no longer resident,
 * for large blocks, small blocks, and blocks that were never touched; and no mapping is split. With decay
 * off: nothing goes by itself. */
#include "victim.h"

static const long MIB = 1024; /* in KiB */

/* Anonymous memory alone: code that runs for the first time becomes resident, too, as much of it as the
 * kernel likes. */
static long resident_kib(void) {
    char text[4096];
    int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    ssize_t n = read(fd, text, sizeof text - 1);
    CHECK(n > 0);
    close(fd);
    text[n] = 0;
    const char *line = strstr(text, "Anonymous:");
    CHECK(line != NULL);
    return strtol(line + strlen("Anonymous:"), NULL, 10);
}

static int mappings(void) {
    char text[4096];
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), lines = 0;
    CHECK(fd >= 0);
    for (ssize_t n; (n = read(fd, text, sizeof text)) > 0;) {
        for (ssize_t i = 0; i < n; i++) {
            lines += text[i] == '\n';
        }
    }
    close(fd);
    return lines;
}

/* A scan, and that it told the truth: within 1/4 MiB, for the scan itself touches pages. */
static long scan_kib(size_t target_kib) {
    long before = resident_kib();
    long given = (long)(rcumalloc_shrink_scan(target_kib == SIZE_MAX ? SIZE_MAX : target_kib << 10) >> 10);
    long gone = before - resident_kib();
    dprintf(2, "asked %ld, given %ld, gone %ld KiB\n", (long)target_kib, given, gone);
    CHECK(labs(given - gone) <= MIB / 4);
    return given;
}

static void use(size_t size, size_t total, bool touch) {
    size_t count = total / size;
    void **block = mmap(NULL, count * sizeof *block, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
        -1, 0);
    CHECK(block != MAP_FAILED);
    for (size_t i = 0; i < count; i++) {
        block[i] = malloc(size);
        CHECK(block[i] != NULL);
        if (touch) {
            memset(block[i], 1, size);
        }
    }
    for (size_t i = 0; i < count; i++) {
        free(block[i]);
    }
    munmap(block, count * sizeof *block);
}

int main(void) {
    CHECK(rcumalloc_present());
    const size_t sizes[] = {1 << 20, 100, 5000};
    for (int i = 0; i < 3; i++) {
        use(sizes[i], 64 << 20, true);
        if (i == 0) {
            scan_kib(SIZE_MAX);
            use(sizes[i], 64 << 20, true);
        }
        int before = mappings();
        long some = scan_kib(20 * MIB);
        CHECK(some >= 20 * MIB && some < 21 * MIB);
        CHECK(rcumalloc_shrink_count() >= (40 << 20));
        long rest = scan_kib(SIZE_MAX);
        CHECK(rest > 40 * MIB && some + rest < 76 * MIB);
        /* A whole unit of 4 MiB that has gone is a hole, and nothing else is. */
        CHECK(mappings() <= before + 64 / 4);
        CHECK(rcumalloc_shrink_count() < (1 << 20));
    }
    use(1 << 20, 64 << 20, false);
    CHECK(scan_kib(SIZE_MAX) < MIB);
    struct rcumalloc_stats s = stats();
    CHECK(s.scans[RCUMALLOC_REASON_API] == 8 && s.last_scan_reason == RCUMALLOC_REASON_API);
    CHECK(s.scanned_bytes[RCUMALLOC_REASON_API] > (190 << 20));
    PRINT("rss_kib", rss_kib());
}
