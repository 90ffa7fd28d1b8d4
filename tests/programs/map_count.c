/* The program uses up its share of mappings (vm.max_map_count), so that whatever would split one of
 * ours fails; the heap breathes meanwhile; afterwards nothing of it is lost. */
#include "victim.h"

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
