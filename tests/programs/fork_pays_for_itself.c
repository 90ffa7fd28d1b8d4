/* `fork_pays_for_itself THREADS`: children of a process with THREADS idle threads, each of which has
 * allocated. Says how many pages a child brings in that ends at once, and that one which goes on comes to
 * use what those threads held. */
#include "victim.h"

enum { FORKS = 10, BLOCKS = 400, ROUNDS = 5 };
static int ready, stop;

static size_t size_of(int i) { return 16 + (size_t)i * 37 % 2000; }

static void *idle(void *unused) {
    void *block[BLOCKS];
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < BLOCKS; i++) {
            block[i] = malloc(size_of(i));
            *(char *)block[i] = 1;
        }
        for (int i = 0; i < BLOCKS; i++) {
            free(block[i]);
        }
    }
    __atomic_fetch_add(&ready, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
        sleep_ms(100);
    }
    return unused;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    int threads = atoi(argv[1]);
    pthread_attr_t small;
    CHECK(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 128 << 10) == 0);
    pthread_t thread;
    for (int i = 0; i < threads; i++) {
        CHECK(pthread_create(&thread, &small, idle, NULL) == 0);
    }
    while (__atomic_load_n(&ready, __ATOMIC_SEQ_CST) < threads) {
        sleep_ms(1);
    }
    long faults = 0;
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();
        if (child == 0) {
            _exit(0);
        }
        struct rusage usage;
        int status;
        CHECK(wait4(child, &status, 0, &usage) == child && status == 0);
        faults += usage.ru_minflt;
    }
    PRINT("faults", faults / FORKS);
    if (rcumalloc_present()) {
        pid_t child = fork();
        if (child == 0) {
            uint64_t before = stats().mapped_bytes, asked = 0;
            for (int i = 0; i < threads * BLOCKS / 4; i++) {
                CHECK(malloc(size_of(i % BLOCKS)) != NULL);
                asked += size_of(i % BLOCKS);
            }
            PRINT("asked", asked);
            uint64_t after = stats().mapped_bytes;
            PRINT("grown", after > before ? after - before : 0);
            CHECK(stats().threads == 1);
            _exit(0);
        }
        reap(child);
        PRINT("bad_calls", stats().bad_calls);
    }
    _exit(0);
}
