/* Larson-like: each thread owns an array of blocks and replaces random ones; after a while it ends and
 * a new thread goes on with its array, so most blocks are freed by another thread than their maker.
 *
 *   larson THREADS SECONDS      prints operations (a free and a malloc) per CPU-second
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SLOTS = 5000, SMALLEST = 8, LARGEST = 1000, TURNS = 100 * SLOTS };

struct seat {
    char *block[SLOTS];
    uint64_t random, operations;
};

static int due(clockid_t clock, double at) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec * 1e-9 >= at;
}

static uint64_t next(uint64_t *state) {
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    return *state;
}

static char *fresh(struct seat *seat) {
    char *block = malloc(SMALLEST + next(&seat->random) % (LARGEST - SMALLEST));
    block[0] = 1;
    return block;
}

static void *sit(void *arg) {
    struct seat *seat = arg;
    for (int turn = 0; turn < TURNS; turn++) {
        char **block = &seat->block[next(&seat->random) % SLOTS];
        free(*block);
        *block = fresh(seat);
    }
    seat->operations += TURNS;
    return NULL;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 2;
    double end = argc > 2 ? atof(argv[2]) : 1;
    struct seat *seats = calloc(threads, sizeof *seats);
    pthread_t *ids = calloc(threads, sizeof *ids);
    for (int i = 0; i < threads; i++) {
        seats[i].random = 88172645463325252u + i;
        for (int j = 0; j < SLOTS; j++) seats[i].block[j] = fresh(&seats[i]);
    }
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    end += start.tv_sec + start.tv_nsec * 1e-9;
    while (!due(CLOCK_MONOTONIC, end)) {
        for (int i = 0; i < threads; i++) pthread_create(&ids[i], NULL, sit, &seats[i]);
        for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    }
    uint64_t operations = 0;
    for (int i = 0; i < threads; i++) operations += seats[i].operations;
    printf("%.0f\n", operations / ((double)clock() / CLOCKS_PER_SEC));
    return 0;
}
