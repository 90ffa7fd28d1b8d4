/* `core_small [MIB]`: holds a megabyte, after it had so many more in large and small blocks, freed and
 * trimmed, and comes to `halt`, where a debugger writes a core. */
#include "victim.h"

__attribute__((noinline)) void halt(const char *block) { CHECK(block != NULL); }

static void grow(size_t bytes, size_t size) {
    void **last = NULL;
    for (size_t got = 0; got < bytes; got += size) {
        void **block = malloc(size);
        CHECK(block != NULL);
        memset(block, 1, size);
        *block = last;
        last = block;
    }
    while (last != NULL) {
        void **next = *last;
        free(last);
        last = next;
    }
}

int main(int argc, char **argv) {
    size_t bytes = argc > 1 ? strtoul(argv[1], NULL, 10) << 20 : 0;
    char *block = malloc(1000000);
    CHECK(block != NULL);
    memset(block, 1, 1000000);
    grow(bytes, 1 << 20);
    grow(bytes, 500);
    malloc_trim(0);
    halt(block);
    return 0;
}
