/* Producer and consumer: one thread allocates blocks, the other frees them; a ring hands them over in
 * batches, so that the ring costs little beside malloc and free.
 *
 *   handover SIZE MILLIONS      prints blocks per second of wall time and per CPU-second
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BATCH = 128, BATCHES = 64 };

static char *ring[BATCHES][BATCH];
static struct {
    _Alignas(64) atomic_size_t made;
    _Alignas(64) atomic_size_t used;
} at;
static size_t size, batches;

static void *produce(void *arg) {
    for (size_t i = 0; i < batches; i++) {
        while (i - atomic_load_explicit(&at.used, memory_order_acquire) == BATCHES) sched_yield();
        for (int j = 0; j < BATCH; j++) {
            char *block = ring[i % BATCHES][j] = malloc(size);
            block[0] = 1;
        }
        atomic_store_explicit(&at.made, i + 1, memory_order_release);
    }
    return arg;
}

static void *consume(void *arg) {
    for (size_t i = 0; i < batches; i++) {
        while (atomic_load_explicit(&at.made, memory_order_acquire) == i) sched_yield();
        for (int j = 0; j < BATCH; j++) free(ring[i % BATCHES][j]);
        atomic_store_explicit(&at.used, i + 1, memory_order_release);
    }
    return arg;
}

int main(int argc, char **argv) {
    size = argc > 1 ? strtoul(argv[1], NULL, 10) : 64;
    batches = (argc > 2 ? strtoul(argv[2], NULL, 10) : 20) * 1000000 / BATCH;
    struct timespec begin, end;
    pthread_t producer, consumer;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    pthread_create(&consumer, NULL, consume, NULL);
    pthread_create(&producer, NULL, produce, NULL);
    pthread_join(producer, NULL);
    pthread_join(consumer, NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double wall = end.tv_sec - begin.tv_sec + (end.tv_nsec - begin.tv_nsec) * 1e-9;
    double blocks = (double)batches * BATCH;
    printf("%.0f %.0f\n", blocks / wall, blocks / ((double)clock() / CLOCKS_PER_SEC));
    return 0;
}
