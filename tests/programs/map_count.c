/* The program uses up its share of mappings (vm.max_map_count), so that whatever would split one of
 * ours fails; the heap breathes meanwhile; afterwards nothing of it is lost. Before that: a heap of which
 * every second block was given back to the system has as many mappings as it had. */
#include "victim.h"

static int mappings(void) {
    int count = 0, fd = open("/proc/self/maps", O_RDONLY);
    char text[4096];
    CHECK(fd >= 0);
    for (ssize_t n; (n = read(fd, text, sizeof text)) > 0;) {
        for (ssize_t i = 0; i < n; i++) {
            count += text[i] == '\n';
        }
    }
    close(fd);
    return count;
}

static void count_holes(void) {
    enum { MANY = 600, SIZE = 200000 };
    static void *block[MANY];
    for (int i = 0; i < MANY; i++) {
        block[i] = malloc(SIZE);
        CHECK(block[i] != NULL);
        memset(block[i], 1, SIZE);
    }
    int before = mappings();
    for (int i = 0; i < MANY; i += 2) {
        free(block[i]);
    }
    malloc_trim(0);
    PRINT("mappings_growth", mappings() > before ? mappings() - before : 0);
    for (int i = 1; i < MANY; i += 2) {
        free(block[i]);
    }
    malloc_trim(0);
}

static void breathe(void) {
    enum { MANY = 60000 };
    static void *block[MANY];
    for (int i = 0; i < MANY; i++) {
        block[i] = malloc(i % 1000 == 0 ? 200000 : 1000);
        CHECK(block[i] != NULL);
        memset(block[i], 1, 100);
    }
    for (int i = 0; i < MANY; i += 2) {
        free(block[i]);
    }
    malloc_trim(0);
    for (int i = 1; i < MANY; i += 2) {
        free(block[i]);
    }
    malloc_trim(0);
}

int main(void) {
    CHECK(rcumalloc_present());
    count_holes();
    breathe();
    long rss = rss_kib();
    /* Every second page of a mapping made inaccessible is a mapping of its own. */
    size_t most = 70000;
    char *large = mmap(NULL, most * 8192, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(large != MAP_FAILED);
    size_t made = 0;
    while (made < most && mprotect(large + made * 8192, 4096, PROT_NONE) == 0) {
        made++;
    }
    PRINT("exhausted", made < most);
    for (int i = 0; i < 5; i++) {
        breathe();
    }
    CHECK(munmap(large, most * 8192) == 0);
    breathe();
    PRINT("rss_growth_kib", rss_kib() > rss + 1024 ? rss_kib() - rss : 0);
    exercise(1, 20000);
}
