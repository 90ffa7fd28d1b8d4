/* `jump_out_of_malloc overflow KIND`: recursion that allocates until the stack is full; the handler of
 * SIGSEGV, on a stack of its own, jumps out of whatever was under way, twenty times. KIND: sizes, small,
 * mixed or large. `jump_out_of_malloc timer KIND`: a timer's handler jumps out of a loop that allocates,
 * many times. With `thread` behind it: beside an idle thread. At the end the heap must serve and hold what
 * it is asked to. */
#include "victim.h"
#include <setjmp.h>
#include <sys/time.h>

enum { OVERFLOWS = 20, JUMPS = 2000, HELD = 1 << 20, ALTERNATE = 64 * 1024 };
static sigjmp_buf out;
static volatile sig_atomic_t may_jump;
static void **held;
static volatile long count;
static size_t most;

static void *idle(void *nothing) {
    for (;;) {
        pause();
    }
    return nothing;
}

static void jump(int signal) {
    (void)signal;
    if (may_jump) {
        may_jump = 0;
        siglongjmp(out, 1);
    }
}

static void allocate(unsigned long step) {
    size_t size = step * 2654435761u % most + 1;
    void *block = malloc(size);
    CHECK(block != NULL);
    *(char *)block = 1;
    if (count < HELD) {
        held[count] = block;
        count = count + 1;
    }
    if (step % 3 == 0 && count > 2) {
        count = count - 1;
        free(held[count]);
    } else if (step % 7 == 0) {
        count = count - 1;
        void *moved = realloc(held[count], size * 2);
        CHECK(moved != NULL);
        held[count] = moved;
        count = count + 1;
    }
}

static int recurse(unsigned long depth) {
    volatile char pad[48];
    pad[0] = (char)depth;
    allocate(depth);
    return recurse(depth + 1) + pad[0];
}

/* Frees what is held. A jump may have come between a block's life and its place in the array: such blocks
 * are lost to the program, not to the heap. */
static void release(void) {
    while (count > 0) {
        count = count - 1;
        free(held[count]);
    }
}

static void overflow(void) {
    static char stack[ALTERNATE];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    CHECK(sigaltstack(&alternate, NULL) == 0);
    struct sigaction action = {.sa_handler = jump, .sa_flags = SA_ONSTACK | SA_NODEFER};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    for (volatile int caught = 0; caught < OVERFLOWS; caught++) {
        if (sigsetjmp(out, 1) == 0) {
            may_jump = 1;
            recurse(0);
        }
        release();
    }
}

static void timer(void) {
    struct sigaction action = {.sa_handler = jump, .sa_flags = SA_NODEFER};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    volatile unsigned long step = 0;
    for (volatile int jumped = 0; jumped < JUMPS; jumped++) {
        if (sigsetjmp(out, 1) == 0) {
            may_jump = 1;
            struct itimerval soon = {.it_value = {.tv_usec = 20 + jumped % 300}};
            setitimer(ITIMER_REAL, &soon, NULL);
            for (;;) {
                step = step + 1;
                allocate(step);
            }
        }
        /* What was being freed or moved when the jump came may be freed already: it is left alone. */
        if (count > 1000) {
            for (long at = 0; at < count - 1; at++) {
                held[at] = NULL;
            }
            count = 0;
        }
    }
}

int main(int argc, char **argv) {
    CHECK(argc >= 3);
    most = strcmp(argv[2], "small") == 0 ? 64 : strcmp(argv[2], "mixed") == 0 ? 3000 : 40000;
    held = mmap(NULL, HELD * sizeof *held, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(held != MAP_FAILED);
    if (argc > 3 && strcmp(argv[3], "thread") == 0) {
        /* The handler is to run in this thread, whose frames it leaves, also while that one keeps signals
         * out. */
        sigset_t alarms;
        CHECK(sigemptyset(&alarms) == 0 && sigaddset(&alarms, SIGALRM) == 0);
        CHECK(pthread_sigmask(SIG_BLOCK, &alarms, NULL) == 0);
        start(idle, NULL);
        CHECK(pthread_sigmask(SIG_UNBLOCK, &alarms, NULL) == 0);
    }
    if (strcmp(argv[1], "overflow") == 0) {
        overflow();
    } else {
        timer();
    }
    exercise(1, 20000);
    dprintf(1, "done\n");
    _exit(0);
}
