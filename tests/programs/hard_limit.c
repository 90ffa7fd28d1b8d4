/* RCUMALLOC_HARD_LIMIT: malloc fails in place of the kernel's killer, for many threads at once, and what was
 * freed is there again. */
#include "victim.h"

enum { THREADS = 8, MOST = 1 << 16 };

static const size_t SIZES[] = {48, 200, 1000, 5000, 40000, 300000};

/* One thread's blocks, in memory of their own. */
struct Hoard {
    pthread_t thread;
    uint64_t bytes, limit;
    void **blocks;
    size_t count, size;
};

static pthread_barrier_t together;

static void touch(void *block, size_t size) { memset(block, 0x5a, size); }

/* Takes blocks of one size until there is none left. */
static void hoard_all(struct Hoard *hoard) {
    for (hoard->count = 0, hoard->bytes = 0; hoard->count < MOST; hoard->count++) {
        errno = 0;
        void *block = malloc(hoard->size);
        if (block == NULL) {
            CHECK(errno == ENOMEM);
            return;
        }
        touch(block, hoard->size);
        hoard->blocks[hoard->count] = block;
        hoard->bytes += hoard->size;
        CHECK(hoard->bytes <= hoard->limit);
    }
}

static void let_go(struct Hoard *hoard) {
    while (hoard->count > 0) {
        free(hoard->blocks[--hoard->count]);
    }
}

static void *work(void *argument) {
    struct Hoard *hoard = argument;
    /* Three times: what the others have freed in between waits for a grace period. */
    for (int round = 0; round < 3; round++) {
        pthread_barrier_wait(&together);
        hoard_all(hoard);
        pthread_barrier_wait(&together);
        /* The main thread looks. */
        pthread_barrier_wait(&together);
        let_go(hoard);
    }
    /* What they keep is taken from them while they are there. */
    pthread_barrier_wait(&together);
    pthread_barrier_wait(&together);
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    long limit_kib = strtol(argv[1], NULL, 10) * 1024;
    size_t table = MOST * sizeof(void *);
    void **blocks = mmap(NULL, THREADS * table, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(blocks != MAP_FAILED);
    touch(blocks, THREADS * table);
    CHECK(pthread_barrier_init(&together, NULL, THREADS + 1) == 0);
    struct Hoard hoards[THREADS];
    long before_kib = rss_kib();
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < THREADS; i++) {
        hoards[i].blocks = blocks + (size_t)i * MOST;
        hoards[i].limit = (uint64_t)limit_kib * 1024;
        hoards[i].size = SIZES[(size_t)i % (sizeof SIZES / sizeof *SIZES)];
        CHECK(pthread_create(&hoards[i].thread, NULL, work, &hoards[i]) == 0);
    }
    for (int round = 0; round < 3; round++) {
        pthread_barrier_wait(&together);
        pthread_barrier_wait(&together);
        uint64_t all = 0;
        for (int i = 0; i < THREADS; i++) {
            all += hoards[i].bytes;
        }
        least = all < least ? all : least;
        pthread_barrier_wait(&together);
    }
    pthread_barrier_wait(&together);
    /* The most that was ever resident beside what was there before. */
    PRINT("grown_kib", hwm_kib() - before_kib);
    PRINT("least_kib", least / 1024);
    /* Nearly all of it at once, though much of what was freed waits or lies with threads. */
    size_t most = (size_t)limit_kib * 1024 / 16 * 15;
    void *large = malloc(most);
    CHECK(large != NULL);
    touch(large, most);
    CHECK(malloc((size_t)limit_kib * 1024) == NULL && errno == ENOMEM);
    CHECK(malloc(most / 2) == NULL && errno == ENOMEM);
    /* In place there is no room either. */
    CHECK(realloc(large, most * 2) == NULL && errno == ENOMEM);
    char value[32];
    snprintf(value, sizeof value, "%ldK", limit_kib * 2);
    CHECK(rcumalloc_set("RCUMALLOC_HARD_LIMIT", value));
    void *more = malloc(most / 2);
    CHECK(more != NULL);
    /* Lowered: what is there stays, and nothing is added. */
    CHECK(rcumalloc_set("RCUMALLOC_HARD_LIMIT", "1M"));
    CHECK(malloc(most / 4) == NULL && errno == ENOMEM);
    free(more);
    free(large);
    pthread_barrier_wait(&together);
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(hoards[i].thread, NULL) == 0);
    }
    dprintf(1, "done\n");
    return 0;
}
