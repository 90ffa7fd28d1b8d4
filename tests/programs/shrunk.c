/* A block of 256 MiB shrinks twice, and the program says nothing else: what is resident then. */
#include "victim.h"

enum { MIB = 1 << 20 };

int main(void) {
    free(malloc(100));
    long before = rss_kib();
    char *block = malloc(256 * MIB);
    CHECK(block != NULL);
    memset(block, 1, 256 * MIB);
    for (int mib = 150; mib >= 100; mib -= 50) {
        block = realloc(block, (size_t)mib * MIB);
        long now = rss_kib() - before;
        dprintf(1, "at_%d_kib %ld\n", mib, now);
        CHECK(block[0] == 1 && block[(size_t)mib * MIB - 1] == 1);
    }
    return 0;
}
