/* Frees half a gigabyte and asks for nothing but malloc_trim: what the process is charged for afterwards. */
#include "victim.h"

enum { BLOCKS = 512, SIZE = 1 << 20 };

int main(void) {
    static char *blocks[BLOCKS];
    free(malloc(100));
    long data = status_kib("VmData:"), rss = rss_kib();
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(SIZE);
        CHECK(blocks[i] != NULL);
        memset(blocks[i], 1, SIZE);
    }
    for (int i = 0; i < BLOCKS; i++) {
        free(blocks[i]);
    }
    malloc_trim(0);
    long data_kept = status_kib("VmData:") - data, rss_kept = rss_kib() - rss;
    PRINT("data_kib", data_kept > 0 ? data_kept : 0);
    PRINT("rss_kib", rss_kept > 0 ? rss_kept : 0);
    return 0;
}
