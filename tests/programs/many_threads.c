/* `many_threads THREADS`: so many threads that each allocate and free blocks of many sizes and then wait:
 * what is resident while they wait, and once all of them have ended and nothing has been called since.
 * Then again, to see what of the first ones is used by the second. */
#include "victim.h"

enum { BLOCKS = 200, STEP = 37, WIDEST = 2000, STACK_BYTES = 64 << 10 };

static pthread_barrier_t idle, ended;

static void *work_and_wait(void *unused) {
    void *block[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        size_t size = 1 + (size_t)(i * STEP) % WIDEST;
        block[i] = malloc(size);
        CHECK(block[i] != NULL);
        memset(block[i], 1, size);
    }
    for (int i = 0; i < BLOCKS; i++) {
        free(block[i]);
    }
    pthread_barrier_wait(&idle);
    pthread_barrier_wait(&ended);
    return unused;
}

static void run(pthread_t *thread, int threads, const char *idle_name, const char *ended_name) {
    pthread_attr_t attributes;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0);
    for (int i = 0; i < threads; i++) {
        CHECK(pthread_create(&thread[i], &attributes, work_and_wait, NULL) == 0);
    }
    pthread_barrier_wait(&idle);
    long while_idle = rss_kib();
    pthread_barrier_wait(&ended);
    for (int i = 0; i < threads; i++) {
        join(thread[i]);
    }
    long when_ended = rss_kib();
    PRINT(idle_name, while_idle);
    PRINT(ended_name, when_ended);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    int threads = atoi(argv[1]);
    pthread_t *thread = malloc((size_t)threads * sizeof *thread);
    pthread_barrier_init(&idle, NULL, (unsigned)threads + 1);
    pthread_barrier_init(&ended, NULL, (unsigned)threads + 1);
    run(thread, threads, "idle_kib", "ended_kib");
    size_t meta_bytes = rcumalloc_present() ? stats().meta_bytes : 0;
    run(thread, threads, "idle_again_kib", "ended_again_kib");
    size_t meta_growth = rcumalloc_present() ? stats().meta_bytes - meta_bytes : 0;
    PRINT("meta_growth", meta_growth);
}
