/* Sections in signal handlers: the handler interrupts a thread inside malloc, inside a section or in the
 * middle of opening one, and reads a block that a writer replaces and frees meanwhile. Every other section
 * is opened through the thread's handle, whose steps the handler interrupts in the thread's own code. */
#include "victim.h"
#include <sys/time.h>

enum { SIZE = 256 };
static unsigned char *shared;
static unsigned long handled, violations;
static pthread_t reader;
static int stop;

static void check_section(int spins) {
    static __thread unsigned count;
    rcumalloc_reader *self = ++count % 2 == 0 ? rcumalloc_reader_self() : NULL;
    if (self != NULL) {
        rcumalloc_reader_lock(self);
    } else {
        rcumalloc_read_lock();
    }
    CHECK(rcumalloc_read_held());
    unsigned char *block = __atomic_load_n(&shared, __ATOMIC_ACQUIRE);
    unsigned char first = block[0];
    for (int i = 0; i < spins; i++) {
        for (int at = 0; at < SIZE; at++) {
            if (*(volatile unsigned char *)&block[at] != first) {
                __atomic_fetch_add(&violations, 1, __ATOMIC_RELAXED);
            }
        }
    }
    if (self != NULL) {
        rcumalloc_reader_unlock(self);
    } else {
        rcumalloc_read_unlock();
    }
}

static void handle(int unused) {
    (void)unused;
    int saved = errno;
    bool held = rcumalloc_read_held();
    check_section(20);
    CHECK(rcumalloc_read_held() == held);
    __atomic_fetch_add(&handled, 1, __ATOMIC_RELAXED);
    errno = saved;
}

static void *read_all_the_time(void *unused) {
    uint64_t seed = 1;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        check_section(1);
        CHECK(!rcumalloc_read_held());
        free(malloc(next_random(&seed) % 1000));
    }
    return unused;
}

int main(void) {
    CHECK(rcumalloc_present());
    signal(SIGUSR1, handle);
    signal(SIGPROF, handle); /* in whichever thread runs: the writer, too */
    struct itimerval often = {{0, 500}, {0, 500}};
    setitimer(ITIMER_PROF, &often, NULL);
    shared = malloc(SIZE);
    memset(shared, 1, SIZE);
    reader = start(read_all_the_time, NULL);
    uint64_t until = now_ms() + 1500;
    for (unsigned char value = 1; now_ms() < until; value++) {
        for (int i = 0; i < 200; i++) {
            unsigned char *fresh = malloc(SIZE);
            memset(fresh, value, SIZE);
            unsigned char *old = __atomic_exchange_n(&shared, fresh, __ATOMIC_ACQ_REL);
            free(old);
        }
        pthread_kill(reader, SIGUSR1);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    join(reader);
    raise(SIGUSR1); /* the first section of this thread is a handler's */
    CHECK(!rcumalloc_read_held());
    PRINT("handled", handled);
    PRINT("violations", violations);
}
