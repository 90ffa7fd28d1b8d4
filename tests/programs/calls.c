/* Functions that wait for a grace period: rcumalloc_call and rcumalloc_call_head, a case each. */
#include "victim.h"
#include <semaphore.h>
#include <stdatomic.h>

static atomic_int ran;

static void count(void *p) {
    (void)p;
    ran++;
}

/* ---- a reader that began before the call is waited for, and one function waits for it ---- */

static sem_t inside, may_end;

static void *reader(void *unused) {
    rcumalloc_read_lock();
    sem_post(&inside);
    sem_wait(&may_end);
    rcumalloc_read_unlock();
    return unused;
}

static void waits_for_readers(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, reader, NULL) == 0);
    sem_wait(&inside);
    CHECK(rcumalloc_call(NULL, count));
    /* Whole grace periods of readers that come later do not end it. */
    for (int i = 0; i < 100; i++) {
        usleep(1000);
        CHECK(ran == 0);
    }
    sem_post(&may_end);
    rcumalloc_barrier();
    CHECK(ran == 1);
    pthread_join(thread, NULL);
}

/* ---- in order, once each, in a thread of the library's, in no section, with signals blocked ---- */

enum { CALLS = 20000 };

struct numbered {
    rcumalloc_head head;
    int number;
};

static int next;
static pid_t caller;

static void is_next(int number) {
    CHECK(number == next);
    next++;
    CHECK(!rcumalloc_read_held());
    CHECK(syscall(SYS_gettid) != caller);
    if (number % 1000 == 0) {
        sigset_t blocked;
        pthread_sigmask(SIG_BLOCK, NULL, &blocked);
        CHECK(sigismember(&blocked, SIGTERM) && !sigismember(&blocked, SIGSEGV));
    }
}

static void run_head(rcumalloc_head *head) {
    struct numbered *own = (struct numbered *)head;
    is_next(own->number);
    free(own);
}

static void run_pointer(void *p) {
    is_next(*(int *)p);
    free(p);
}

static void in_order(void) {
    caller = syscall(SYS_gettid);
    for (int i = 0; i < CALLS; i++) {
        if (i % 2) {
            int *number = malloc(sizeof *number);
            *number = i;
            CHECK(rcumalloc_call(number, run_pointer));
        } else {
            struct numbered *own = malloc(sizeof *own);
            own->number = i;
            rcumalloc_call_head(&own->head, run_head);
        }
    }
    rcumalloc_barrier();
    CHECK(next == CALLS);
}

/* ---- who queues past the bound waits, outside sections ---- */

enum { MOST = 65536, MORE = 20 };

static void wait_for_gate(void *p) {
    (void)p;
    sem_wait(&may_end);
}

static long sleeps(void) {
    struct rusage usage;
    CHECK(getrusage(RUSAGE_THREAD, &usage) == 0);
    return usage.ru_nvcsw;
}

static void bounded(void) {
    CHECK(rcumalloc_call(NULL, wait_for_gate));
    for (int i = 0; i < MOST; i++) {
        CHECK(rcumalloc_call(NULL, count));
    }
    long before = sleeps();
    for (int i = 0; i < MORE; i++) {
        CHECK(rcumalloc_call(NULL, count));
    }
    CHECK(sleeps() - before >= MORE);
    CHECK(ran == 0);
    sem_post(&may_end);
    rcumalloc_barrier();
    CHECK(ran == MOST + MORE);
}

/* ---- the child of a fork has what was queued, and a worker of its own ---- */

static void forked(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, reader, NULL) == 0);
    sem_wait(&inside);
    for (int i = 0; i < 10; i++) {
        CHECK(rcumalloc_call(NULL, count));
    }
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(ran == 0);
        rcumalloc_barrier();
        CHECK(ran == 10);
        CHECK(rcumalloc_call(NULL, count));
        rcumalloc_barrier();
        CHECK(ran == 11);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(ran == 0);
    sem_post(&may_end);
    rcumalloc_barrier();
    CHECK(ran == 10);
    pthread_join(thread, NULL);
}

/* ---- a function that forks: the child goes on in it, and is the worker ---- */

static atomic_int child_status = -1;

static void ends_child(void *p) {
    (void)p;
    _exit(ran == 1 ? 0 : 3);
}

static void forks(void *p) {
    (void)p;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(rcumalloc_call(NULL, count));
        CHECK(rcumalloc_call(NULL, ends_child));
        return;
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    child_status = status;
}

static void function_forks(void) {
    CHECK(rcumalloc_call(NULL, forks));
    rcumalloc_barrier();
    CHECK(child_status == 0);
}

/* ---- where no thread can be made, who waits for the functions runs them ---- */

static void without_thread(void) {
    free(malloc(1));
    long pages;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%ld", &pages) == 1);
    fclose(file);
    /* Less than a thread's stack. */
    struct rlimit limit = {pages * 4096 + (4 << 20), pages * 4096 + (4 << 20)};
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, reader, NULL) != 0);
    CHECK(rcumalloc_call(NULL, count));
    CHECK(rcumalloc_call(NULL, count));
    rcumalloc_barrier();
    CHECK(ran == 2);
}

/* ---- the worker ends when nothing comes, and with it a process whose other threads have ---- */

static void ends(void) {
    CHECK(rcumalloc_call(NULL, count));
    rcumalloc_barrier();
    CHECK(ran == 1);
    dprintf(1, "done\n");
    pthread_exit(NULL);
}

/* ---- a function that waits for itself ---- */

static void waits_for_itself(void *p) {
    (void)p;
    rcumalloc_barrier();
}

static void barrier_inside(void) {
    CHECK(rcumalloc_call(NULL, waits_for_itself));
    rcumalloc_barrier();
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    sem_init(&inside, 0, 0);
    sem_init(&may_end, 0, 0);
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = {
        {"waits_for_readers", waits_for_readers}, {"in_order", in_order}, {"bounded", bounded},
        {"forked", forked}, {"function_forks", function_forks}, {"without_thread", without_thread},
        {"ends", ends}, {"barrier_inside", barrier_inside},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (strcmp(argv[1], cases[i].name) == 0) {
            cases[i].run();
            dprintf(1, "done\n");
            return 0;
        }
    }
    return 2;
}
