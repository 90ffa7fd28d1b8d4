/* `seccomp_strict early|late|threads|watched`: a filter kills the process at any call that glibc's malloc and
 * threads would not make themselves. It is installed as main begins, or when there are threads, or when
 * there are threads, a large heap and the library's own thread, for which it then holds, too; then
 * everything happens that an unmodified program can make happen: threads come and go, fork, the
 * backlog goes past its budget, memory is trimmed, the process ends. */
#include "victim.h"
#include "filter.h"

static const unsigned allowed[] = {
    SYS_read, SYS_write, SYS_openat, SYS_close, SYS_fstat, SYS_newfstatat, SYS_lseek, SYS_mmap,
    SYS_mprotect, SYS_munmap, SYS_mremap, SYS_madvise, SYS_brk, SYS_futex, SYS_clone, SYS_clone3,
    SYS_exit, SYS_exit_group, SYS_set_robust_list, SYS_rseq, SYS_rt_sigaction, SYS_rt_sigprocmask,
    SYS_rt_sigreturn, SYS_sched_yield, SYS_nanosleep, SYS_clock_nanosleep, SYS_clock_gettime,
    SYS_gettid, SYS_getpid, SYS_tgkill, SYS_wait4, SYS_getrandom, SYS_restart_syscall,
};

static void install_strict(void) {
    enum { COUNT = sizeof allowed / sizeof *allowed };
    struct sock_filter code[COUNT + 3] = {LOAD_NUMBER};
    for (int i = 0; i < COUNT; i++) {
        code[i + 1] = (struct sock_filter)IS(allowed[i], (unsigned char)(COUNT - i), 0);
    }
    code[COUNT + 1] = (struct sock_filter)ANSWER(SECCOMP_RET_KILL_PROCESS);
    code[COUNT + 2] = (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW);
    install(code, COUNT + 3);
}

static void *work(void *seed) {
    exercise((uintptr_t)seed, 3000);
    return NULL;
}
/* A heap that is worth watching. */
static void grow(void) {
    for (int i = 0; i < 32; i++) {
        void *block = malloc(24 << 20);
        CHECK(block != NULL);
        memset(block, 1, 24 << 20);
        free(block);
    }
}
static void *idle(void *unused) {
    for (;;) {
        sleep_ms(1000);
    }
    return unused;
}

static void everything(void) {
    start(idle, NULL); /* past the budget somebody lags and must be asked */
    for (uintptr_t i = 1; i < 20; i++) {
        pthread_t one = start(work, (void *)i), two = start_untold(work, (void *)(i + 1));
        work((void *)(i + 2));
        join(one);
        join(two);
    }
    pthread_t many[100];
    for (uintptr_t i = 0; i < 100; i++) {
        many[i] = start(work, (void *)(i + 1));
    }
    for (int i = 0; i < 100; i++) {
        join(many[i]);
    }
    for (int i = 0; i < 400; i++) {
        free(malloc(1 << 20));
        void *block = realloc(malloc(40000), 4000000);
        free(block);
    }
    malloc_trim(0);
    pid_t child = fork();
    if (child == 0) {
        work((void *)3);
        exit(0);
    }
    reap(child);
    work((void *)4);
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    if (strcmp(argv[1], "early") == 0) {
        install_strict();
    } else if (strcmp(argv[1], "late") == 0) {
        everything();
        install_strict();
    } else {
        start(idle, NULL);
        bool watched = strcmp(argv[1], "watched") == 0;
        for (int i = 0; watched && i < 200 && status_kib("Threads:") < 3; i++) {
            grow();
            sleep_ms(5);
        }
        CHECK(!watched || status_kib("Threads:") == 3);
        sleep_ms(watched ? 100 : 0); /* its first moments are over */
        install_strict();
    }
    grow();
    everything();
    sleep_ms(2500); /* whoever wakes now and then has done so */
    grow();
    dprintf(1, "done\n");
}
