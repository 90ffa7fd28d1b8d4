/* What no heap can give is refused at once: nothing is scanned for it, however much could be given back. */
#include "victim.h"

static uint64_t scans(void) {
    struct rcumalloc_stats s = stats();
    uint64_t all = 0;
    for (size_t reason = 0; reason < sizeof s.scans / sizeof s.scans[0]; reason++) {
        all += s.scans[reason];
    }
    return all;
}

int main(void) {
    CHECK(rcumalloc_present());
    free(malloc(1 << 20));
    uint64_t before = scans();
    int refused = 0;
    for (unsigned shift = 47; shift < 64; shift++) { /* past the addresses that a process has */
        size_t large = (size_t)1 << shift;
        void *block = &block;
        refused += posix_memalign(&block, large, 100) == ENOMEM && block == &block;
        refused += aligned_alloc(large, 100) == NULL && errno == ENOMEM;
        refused += posix_memalign(&block, 4096, large) == ENOMEM && block == &block;
        refused += malloc(large) == NULL && errno == ENOMEM;
        refused += calloc(large, 1) == NULL && errno == ENOMEM;
        refused += realloc(NULL, large) == NULL && errno == ENOMEM;
    }
    PRINT("granted", 6 * (64 - 47) - refused);
    PRINT("scans", scans() - before);
    _exit(0);
}
