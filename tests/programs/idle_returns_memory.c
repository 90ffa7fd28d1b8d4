/* `idle_returns_memory HOW SECONDS [LEVEL]`: 300 MiB, all freed, and nothing is called afterwards: how
 * much is resident, at once and after so many seconds. HOW is `solo` (small blocks), `large` (large ones,
 * solo), `threads` (four of them make and free it, and go on living, asleep), or `stirring` (the same, but
 * main goes on making and freeing a few blocks). LEVEL: a memory pressure that is reported once all is
 * freed. */
#include "victim.h"

enum { THREADS = 4, STIRRED = 300 };
static const size_t PEAK = (size_t)300 << 20;
static size_t smallest = 16, widest = 2000;
static pthread_barrier_t full, freed;

static void fill_and_free(size_t wanted, bool together) {
    size_t have = 0;
    uint64_t seed = 12345;
    void **last = NULL;
    while (have < wanted) {
        size_t size = smallest + next_random(&seed) % widest;
        void **block = malloc(size);
        CHECK(block != NULL);
        memset(block, 1, size);
        *block = last;
        last = block;
        have += size;
    }
    if (together) {
        pthread_barrier_wait(&full);
    }
    while (last != NULL) {
        void **next = *last;
        free(last);
        last = next;
    }
}

static void *once(void *unused) {
    fill_and_free(PEAK / THREADS, true);
    pthread_barrier_wait(&freed);
    for (;;) {
        pause();
    }
    return unused;
}

static void stir(void) {
    static void *block[STIRRED];
    for (int i = 0; i < STIRRED; i++) {
        block[i] = malloc(1000);
    }
    for (int i = 0; i < STIRRED; i++) {
        free(block[i]);
    }
}

int main(int argc, char **argv) {
    CHECK(argc >= 3);
    bool stirs = strcmp(argv[1], "stirring") == 0;
    if (stirs || strcmp(argv[1], "threads") == 0) {
        pthread_barrier_init(&full, NULL, THREADS);
        pthread_barrier_init(&freed, NULL, THREADS + 1);
        for (int i = 0; i < THREADS; i++) {
            start(once, NULL);
        }
        pthread_barrier_wait(&freed);
    } else {
        if (strcmp(argv[1], "large") == 0) {
            smallest = 40000;
            widest = 3000000;
        }
        fill_and_free(PEAK, false);
    }
    PRINT("peak_kib", hwm_kib());
    PRINT("at_once_kib", rss_kib());
    if (argc > 3) {
        rcumalloc_pressure(atoi(argv[3]));
        PRINT("pressed_kib", rss_kib());
    }
    uint64_t until = now_ms() + (uint64_t)atoi(argv[2]) * 1000;
    while (now_ms() < until) {
        sleep_ms(20);
        if (stirs) {
            stir();
        }
    }
    PRINT("idle_kib", rss_kib());
}
