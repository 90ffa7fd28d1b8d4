/* `vfork_scan HOW`: a child that shares its parent's memory (HOW: vfork, clone, namespace, own_tls) has
 * another process number, or lives where its parent's threads have none. It allocates, as such children
 * do, and the heap, asked to give back there, must take none of the parent's threads for gone: their
 * caches stay theirs, and a read-side section that one of them is in goes on. With own_tls the child has
 * thread-local storage of its own and runs beside its parent, which must not take it for gone either.
 * `deserted`: what a thread leaves that ends without libc is found. `growing`: a child whose heap grows
 * gets no thread of the library's, which would end with it. */
#include "victim.h"

#include "filter.h"

enum { STORMS = 2, ROUNDS = 30, SIZE = 100, BLOCKS = 1000 };
static int stop, phase;
static unsigned char *shared;
static char stack[1 << 18] __attribute__((aligned(64)));

static void set_phase(int to) { __atomic_store_n(&phase, to, __ATOMIC_SEQ_CST); }
static void wait_for(int from) {
    while (__atomic_load_n(&phase, __ATOMIC_SEQ_CST) < from) {
        sleep_ms(1);
    }
}

static void *storm(void *seed) {
    for (uintptr_t i = (uintptr_t)seed << 32; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
        exercise(i + 1, 300);
    }
    return NULL;
}

static void *reader(void *unused) {
    rcumalloc_read_lock();
    unsigned char *seen = __atomic_load_n(&shared, __ATOMIC_SEQ_CST);
    set_phase(1);
    wait_for(2);
    int changed = 0;
    for (int i = 0; i < SIZE; i++) {
        changed += seen[i] != 7;
    }
    PRINT("changed", changed);
    CHECK(rcumalloc_read_held());
    rcumalloc_read_unlock();
    return unused;
}

/* What the child does. */
static int work(void *unused) {
    (void)unused;
    void *block[40];
    for (int i = 0; i < 40; i++) {
        block[i] = malloc(i % 2 ? 8000 : 20000);
        fill(block[i], 8000, i);
    }
    rcumalloc_shrink_scan(SIZE_MAX);
    for (int i = 0; i < 40; i++) {
        CHECK(filled(block[i], 8000, i));
        free(block[i]);
    }
    return 0;
}

static int work_on(void *unused) {
    for (int i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
        exercise(i + 1, 300);
        rcumalloc_shrink_scan(1 << 20);
    }
    return work(unused);
}

/* Thread-local storage as libc lays it out for a new thread. */
static void *new_tls(void) {
    void *(*allocate)(void *) = (void *(*)(void *))dlsym(RTLD_DEFAULT, "_dl_allocate_tls");
    CHECK(allocate != NULL);
    void **control = allocate(NULL);
    CHECK(control != NULL);
    memcpy(control, __builtin_thread_pointer(), 64);
    control[0] = control[2] = control;
    return control;
}

static bool child(const char *how) {
    pid_t pid;
    if (strcmp(how, "vfork") == 0) {
        pid = vfork();
        if (pid == 0) {
            _exit(work(NULL));
        }
    } else {
        int flags = strcmp(how, "namespace") == 0 ? CLONE_NEWPID : 0;
        pid = clone(work, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD | flags, NULL);
        if (pid < 0 && flags != 0) {
            return false;
        }
    }
    reap(pid);
    return true;
}

static int leave(void *unused) {
    (void)unused;
    exercise(1, 1000);
    set_phase(1);
    syscall(SYS_exit, 0);
    return 0;
}

static void deserted(void) {
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SETTLS |
                CLONE_CHILD_CLEARTID;
    char *control = new_tls();
    static int tid = 1;
    CHECK(clone(leave, stack + sizeof stack, flags, NULL, NULL, control, &tid) > 0);
    while (__atomic_load_n(&tid, __ATOMIC_SEQ_CST) != 0) {
        sleep_ms(1);
    }
    CHECK(stats().threads == 2);
    /* Another use of the storage. */
    memset(control - 1024, 0, 1024);
    rcumalloc_shrink_scan(SIZE_MAX);
    PRINT("threads", stats().threads);
}

static void *idle(void *unused) {
    wait_for(1);
    return unused;
}

static void growing(void) {
    pthread_t thread = start(idle, NULL);
    pid_t pid = vfork();
    if (pid == 0) {
        struct sock_filter no_thread[] = {LOAD_NUMBER, IS(SYS_clone, 0, 1), ANSWER(SECCOMP_RET_KILL_PROCESS),
                                          ANSWER(SECCOMP_RET_ALLOW)};
        install(no_thread, sizeof no_thread / sizeof *no_thread);
        for (int i = 0; i < 10000; i++) {
            free(malloc(20000 + i));
            CHECK(malloc(8000) != NULL);
            if (i % 1000 == 0) {
                sleep_ms(10);
            }
        }
        _exit(0);
    }
    reap(pid); /* A child that had made a thread would have been killed. */
    for (int i = 0; i < 100 && thread_count() == 2; i++) {
        exercise(i + 1, 3000);
        sleep_ms(10);
    }
    PRINT("watched", thread_count() == 3);
    set_phase(1);
    join(thread);
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    const char *how = argv[1];
    if (strcmp(how, "deserted") == 0) {
        deserted();
        return 0;
    }
    if (strcmp(how, "growing") == 0) {
        growing();
        return 0;
    }
    shared = malloc(SIZE);
    memset(shared, 7, SIZE);
    pthread_t thread[STORMS + 1];
    for (uintptr_t i = 0; i < STORMS; i++) {
        thread[i] = start(storm, (void *)(i + 1));
    }
    thread[STORMS] = start(reader, NULL);
    wait_for(1);
    pid_t beside = 0;
    bool has_own = strcmp(how, "own_tls") == 0;
    /* All of them have called by now, an idle thread that was there before, too. */
    while (stats().threads < STORMS + 2) {
        sleep_ms(1);
    }
    unsigned threads = stats().threads;
    if (has_own) {
        beside = clone(work_on, stack + sizeof stack, CLONE_VM | CLONE_SETTLS | SIGCHLD, NULL, NULL,
            new_tls());
        CHECK(beside > 0);
        while (stats().threads == threads) {
            sleep_ms(1);
        }
        threads++;
    }
    void *kept[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        kept[i] = malloc(8000);
        fill(kept[i], 8000, i);
    }
    unsigned char *old = shared;
    __atomic_store_n(&shared, NULL, __ATOMIC_SEQ_CST);
    for (int round = 0; round < ROUNDS; round++) {
        if (has_own) {
            rcumalloc_shrink_scan(SIZE_MAX);
            sleep_ms(2);
        } else if (!child(how)) {
            dprintf(1, "refused\n");
            _exit(0);
        }
        CHECK(stats().threads == threads);
        if (round == 0) {
            free(old);
        }
        void *block[BLOCKS];
        for (int i = 0; i < BLOCKS; i++) {
            block[i] = malloc(SIZE);
            memset(block[i], 9, SIZE);
        }
        for (int i = 0; i < BLOCKS; i++) {
            free(block[i]);
        }
    }
    for (int i = 0; i < BLOCKS; i++) {
        CHECK(filled(kept[i], 8000, i));
    }
    set_phase(2);
    __atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i <= STORMS; i++) {
        join(thread[i]);
    }
    if (has_own) {
        reap(beside);
    }
    PRINT("threads", stats().threads);
    PRINT("bad_calls", stats().bad_calls);
}
