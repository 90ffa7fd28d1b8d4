/* `busy_among_sleepers`: sixty threads have used the heap and sleep, or none, while one thread after the
 * other replaces random ones of 1000 blocks of many sizes and ends. How many bytes were freed a grace period:
 * what a thread that works may fill must not follow the number of those that sleep. */
#include "victim.h"

enum { SLEEPERS = 60, WORKERS = 40, LIVE = 1000, TURNS = 100000 };

static pthread_barrier_t begun;
static uint64_t freed;

static size_t any_size(uint64_t *random) {
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return 16 + (*random >> 33) % 2000;
}

static void *sleeper(void *unused) {
    uint64_t random = 1;
    for (int i = 0; i < 100; i++) {
        free(malloc(any_size(&random)));
    }
    pthread_barrier_wait(&begun);
    pause();
    return unused;
}

static void *worker(void *number) {
    uint64_t random = 1000 + (uintptr_t)number;
    void **live = calloc(LIVE, sizeof *live);
    CHECK(live != NULL);
    for (int i = 0; i < TURNS; i++) {
        void **at = &live[any_size(&random) % LIVE];
        freed += *at != NULL ? malloc_usable_size(*at) : 0;
        free(*at);
        *at = malloc(any_size(&random));
        CHECK(*at != NULL);
    }
    for (int i = 0; i < LIVE; i++) {
        free(live[i]);
    }
    free(live);
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(rcumalloc_present());
    int sleepers = argc == 2 && strcmp(argv[1], "sleepers") == 0 ? SLEEPERS : 0;
    pthread_barrier_init(&begun, NULL, (unsigned)sleepers + 1);
    for (int i = 0; i < sleepers; i++) {
        start(sleeper, NULL);
    }
    pthread_barrier_wait(&begun);
    /* The first ones; the last of many that have borrowed and ended. */
    for (uintptr_t i = 0; i < WORKERS; i++) {
        join(start(worker, (void *)i));
    }
    uint64_t before = stats().periods_completed;
    freed = 0;
    for (uintptr_t i = 0; i < 4; i++) {
        join(start(worker, (void *)i));
    }
    PRINT("bytes_a_period", freed / (stats().periods_completed - before + 1));
}
