/* `mapped_over KIB fixed|moved solo|idle`: a program maps a file over a block of its own, or moves one of
 * its pages away, and frees the block. The next owners of the memory find zeros, may write everywhere, and
 * what they write does not come to the file. */
#include "victim.h"

enum { PAGE = 4096, ROUNDS = 4, OWNERS = 24 };

static void *idle(void *unused) {
    pause();
    return unused;
}

int main(int argc, char **argv) {
    CHECK(argc == 4);
    size_t size = strtoul(argv[1], NULL, 10) * 1024;
    bool fixed = strcmp(argv[2], "fixed") == 0;
    if (strcmp(argv[3], "idle") == 0) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, idle, NULL) == 0);
    }
    int file = memfd_create("mapped_over", 0);
    CHECK(file >= 0 && ftruncate(file, (off_t)size) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        char *block = NULL;
        CHECK(posix_memalign((void **)&block, PAGE, size) == 0);
        memset(block, 1, size);
        if (fixed) {
            CHECK(mmap(block, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == block);
            memset(block, 7, size);
        } else {
            char *to = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            char *page = block + size / 2 / PAGE * PAGE;
            CHECK(mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
        }
        free(block);
        if (rcumalloc_present() && round == 1) {
            rcumalloc_barrier();
        }
    }
    int not_zero = 0, in_file = 0;
    char *owners[OWNERS];
    for (int i = 0; i < OWNERS; i++) {
        owners[i] = i % 2 ? malloc(size) : calloc(1, size);
        CHECK(owners[i] != NULL);
        for (size_t at = 0; i % 2 == 0 && at < size; at++) {
            not_zero += owners[i][at] != 0;
        }
        memset(owners[i], 9, size);
    }
    if (fixed) {
        char page[PAGE];
        for (size_t at = 0; at < size; at += PAGE) {
            CHECK(pread(file, page, PAGE, (off_t)at) == PAGE);
            for (int i = 0; i < PAGE; i++) {
                in_file += page[i] != 7;
            }
        }
    }
    for (int i = 0; i < OWNERS; i++) {
        free(owners[i]);
    }
    PRINT("not_zero", not_zero);
    PRINT("in_file", in_file);
}
