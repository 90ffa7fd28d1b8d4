/* A thread stops inside a section, as under a debugger or SIGSTOP (`stopped_reader thread`: it waits
 * in the section; `process`: the whole process is stopped in it for a while). What it can see must
 * keep its content however much others free; when it goes on, everything comes back. */
#include "victim.h"

enum { SEEN = 1000 };
static struct {
    void *block;
    size_t size;
} seen[SEEN];
static pthread_barrier_t inside, outside;
static int go_on;

static void *read_section(void *process) {
    PRINT("reader", syscall(SYS_gettid));
    rcumalloc_read_lock();
    pthread_barrier_wait(&inside);
    if (process != NULL) {
        raise(SIGSTOP);
    }
    while (!__atomic_load_n(&go_on, __ATOMIC_ACQUIRE)) {
        sleep_ms(1);
    }
    for (unsigned i = 0; i < SEEN; i++) {
        CHECK(filled(seen[i].block, seen[i].size, i));
    }
    rcumalloc_read_unlock();
    pthread_barrier_wait(&outside);
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    pthread_barrier_init(&inside, NULL, 2);
    pthread_barrier_init(&outside, NULL, 2);
    for (unsigned i = 0; i < SEEN; i++) {
        seen[i].size = i % 50 == 0 ? 100000 : i + 1;
        seen[i].block = malloc(seen[i].size);
        fill(seen[i].block, seen[i].size, i);
    }
    pthread_t reader = start(read_section, strcmp(argv[1], "process") == 0 ? argv : NULL);
    pthread_barrier_wait(&inside);
    for (unsigned i = 0; i < SEEN; i++) {
        free(seen[i].block);
    }
    /* 48 MiB of the same sizes, freed at once, for two seconds. */
    uint64_t until = now_ms() + 2000;
    for (size_t done = 0; now_ms() < until;) {
        if (done < (size_t)48 << 20) {
            for (unsigned i = 0; i < SEEN; i++) {
                char *block = malloc(seen[i].size);
                CHECK(block != NULL);
                memset(block, 0xee, seen[i].size);
                free(block);
                done += seen[i].size;
            }
        } else {
            exercise(done++, 10);
            sleep_ms(5);
        }
    }
    PRINT("held", stats().deferred_bytes);
    __atomic_store_n(&go_on, 1, __ATOMIC_RELEASE);
    pthread_barrier_wait(&outside);
    /* The section is over: the backlog goes under its budget again. */
    for (int i = 0; i < 300; i++) {
        exercise(i + 1, 300);
        sleep_ms(1);
    }
    struct rcumalloc_stats s = stats();
    PRINT("deferred", s.deferred_bytes);
    PRINT("budget", s.budget_bytes);
    join(reader);
}
