/* `fork_in_signal_handler [section]`: a program with one thread, which has been in a read-side section if
 * told so, whose timer's handler interrupts malloc and forks. The child returns from the handler, into the
 * call that was interrupted, checks everything it has and ends well. */
#include "victim.h"
#include <sys/time.h>

enum { BLOCKS = 3000, FORKS = 300 };
static void *block[BLOCKS];
static volatile sig_atomic_t forked, child_pid = -1, is_child;

static void handle(int unused) {
    (void)unused;
    if (is_child || child_pid > 0 || forked >= FORKS) {
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        is_child = 1;
        alarm(60);
    } else {
        child_pid = pid;
        forked++;
    }
}

/* Half of them large: those take locks at every call. Of them the first bytes are looked at. */
static size_t size_of(unsigned i) { return i % 2 == 0 ? i % 700 + 1 : 33000 + i * 8; }
static size_t looked_at(unsigned i) { return i % 2 == 0 ? size_of(i) : 64; }

int main(int argc, char **argv) {
    CHECK(rcumalloc_present());
    if (argc > 1 && strcmp(argv[1], "section") == 0) {
        rcumalloc_read_lock();
        rcumalloc_read_unlock();
    }
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    signal(SIGPROF, handle);
    struct itimerval often = {{0, 100}, {0, 100}};
    setitimer(ITIMER_PROF, &often, NULL);
    uint64_t seed = 42;
    unsigned long calls_after_fork = 0;
    signal(SIGALRM, SIG_DFL);
    while (forked < FORKS || child_pid > 0) {
        unsigned i = next_random(&seed) % BLOCKS;
        if (block[i] != NULL) {
            CHECK(filled(block[i], looked_at(i), i));
            free(block[i]);
            block[i] = NULL;
        } else {
            void *fresh = malloc(size_of(i));
            CHECK(fresh != NULL);
            fill(fresh, looked_at(i), i);
            block[i] = fresh;
        }
        if (is_child && ++calls_after_fork > 5000) {
            for (i = 0; i < BLOCKS; i++) {
                CHECK(block[i] == NULL || filled(block[i], looked_at(i), i));
                free(block[i]);
            }
            exit(0);
        }
        if (child_pid > 0 && !is_child) {
            reap(child_pid);
            child_pid = -1;
        }
    }
    PRINT("forked", forked);
    PRINT("concurrent", stats().concurrent);
}
