/* Under a limit on its address space: allocates until it fails, frees, and does it again. */
#include "victim.h"

int main(void) {
    CHECK(rcumalloc_present());
    static void *block[1 << 20];
    static const size_t sizes[] = {40, 5000, 100000};
    for (int round = 0; round < 6; round++) {
        size_t size = sizes[round % 3], got = 0, count = 0;
        while (count < sizeof block / sizeof *block) {
            errno = 0;
            block[count] = malloc(size);
            if (block[count] == NULL) {
                CHECK(errno == ENOMEM);
                break;
            }
            memset(block[count++], 1, size);
            got += size;
        }
        dprintf(1, "got_%zu_%d %zu\n", size, round, got >> 20);
        for (size_t i = 0; i < count; i++) {
            free(block[i]);
        }
        malloc_trim(0);
    }
    exercise(1, 10000);
    pthread_t thread;
    int error = pthread_create(&thread, NULL, (void *(*)(void *))malloc_trim, NULL);
    CHECK(error == 0 || error == EAGAIN); /* its stack counts, too */
    if (error == 0) {
        join(thread);
    }
    dprintf(1, "done\n");
}
