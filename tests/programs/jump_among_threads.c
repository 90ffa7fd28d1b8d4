// flags: -lrt
/* Several threads whose own timers' handlers jump out of malloc and free, wherever they are in it, while the
 * others want the same locks. Each goes on; nobody waits for ever. */
#include "victim.h"

#include <setjmp.h>
#include <sys/syscall.h>
#include <time.h>

enum { THREADS = 3, ROUNDS = 1000, STEPS = 400, BLOCKS = 2000, SMALL = 2000, LARGE = 2000000, RARELY = 30 };
enum { PERIOD_NS = 200000 };

static __thread sigjmp_buf before;
static __thread volatile sig_atomic_t is_armed;

static void jump(int signal) {
    (void)signal;
    if (is_armed) {
        is_armed = 0;
        siglongjmp(before, 1);
    }
}

static void *churn(void *argument) {
    /* Volatile: what was freed is out of here before it is freed. */
    static __thread void *volatile blocks[BLOCKS];
    static __thread volatile unsigned random;
    static __thread volatile long round, jumps;
    random = (unsigned)(uintptr_t)argument;
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    struct itimerspec period = {{0, PERIOD_NS}, {0, PERIOD_NS}}, never = {{0, 0}, {0, 0}};
    CHECK(timer_settime(timer, 0, &period, NULL) == 0);
    for (round = 0; round < ROUNDS; round++) {
        if (sigsetjmp(before, 1)) {
            jumps++;
            continue;
        }
        is_armed = 1;
        for (int step = 0; step < STEPS; step++) {
            random = random * 1664525 + 1013904223;
            unsigned i = (random >> 10) % BLOCKS, size = 1 + (random >> 8) % (i % RARELY ? SMALL : LARGE);
            void *block = blocks[i];
            blocks[i] = NULL;
            free(block);
            blocks[i] = malloc(size);
        }
        is_armed = 0;
    }
    CHECK(timer_settime(timer, 0, &never, NULL) == 0);
    return (void *)jumps;
}

int main(void) {
    struct sigaction action = {.sa_handler = jump, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)) == 0);
    }
    long jumps = 0;
    for (int i = 0; i < THREADS; i++) {
        void *own;
        CHECK(pthread_join(threads[i], &own) == 0);
        jumps += (long)own;
    }
    for (size_t size = 0; size < 100000; size++) {
        free(malloc(size));
    }
    PRINT("jumps", jumps);
    PRINT("bad_calls", rcumalloc_present() ? stats().bad_calls : 0);
}
