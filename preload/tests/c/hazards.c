/* One hazard a function, named as in hazards.md. Run as: hazards NAME. Exit status 0 is success.
 * Linked with nothing of ours: it runs under the preloaded library as any program does. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(what) do { if (!(what)) { fprintf(stderr, "%s: failed: %s\n", __func__, #what); exit(1); } } while (0)

static void churn(int rounds)
{
    for (int k = 0; k < rounds; k++) {
        void *blocks[30];
        for (int i = 0; i < 30; i++) {
            blocks[i] = malloc(i * 97 + k % 50);
            CHECK(blocks[i]);
            memset(blocks[i], k, i * 97);
        }
        for (int i = 0; i < 30; i++)
            free(blocks[i]);
    }
    free(malloc(200000));
}

static void *nothing(void *argument) { return argument; }

static void run_thread(void *(*body)(void *), void **result)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, body, NULL) == 0);
    CHECK(pthread_join(thread, result) == 0);
}

static void expect_success(pid_t child)
{
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

static void child_works(void)
{
    alarm(20);
    churn(100);
    _exit(0);
}

/* ---- threads that come and go ---- */

static pthread_key_t key;
static __thread int rounds;

static void late_destructor(void *value)
{
    free(value);
    free(malloc(123));
    if (rounds++ < 3)
        pthread_setspecific(key, malloc(10));
}

static void *with_key(void *argument)
{
    pthread_setspecific(key, malloc(44));
    return malloc(5000);
}

static void free_after_tls_destroyed(void)
{
    CHECK(pthread_key_create(&key, late_destructor) == 0);
    for (int i = 0; i < 1000; i++) {
        void *left;
        run_thread(with_key, &left);
        free(left);
    }
}

static void *first_is_free(void *block) { free(block); return NULL; }
static void *first_is_realloc(void *block) { return realloc(block, 4000); }
static void *first_is_usable(void *block) { CHECK(malloc_usable_size(block) >= 64); return block; }

static void first_call_kinds(void)
{
    pthread_t thread;
    void *result;
    CHECK(!pthread_create(&thread, NULL, first_is_free, malloc(64)) && !pthread_join(thread, NULL));
    CHECK(!pthread_create(&thread, NULL, first_is_realloc, malloc(64)) && !pthread_join(thread, &result));
    free(result);
    CHECK(!pthread_create(&thread, NULL, first_is_usable, malloc(64)) && !pthread_join(thread, &result));
    free(result);
}

static void *exits(void *argument) { free(malloc(10)); pthread_exit(NULL); }
static void *cancelled(void *argument)
{
    for (;;) {
        free(malloc(10));
        usleep(100);
    }
}

static void exit_and_cancel(void)
{
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        run_thread(exits, NULL);
        CHECK(!pthread_create(&thread, NULL, cancelled, NULL));
        pthread_cancel(thread);
        CHECK(!pthread_join(thread, NULL));
    }
}

/* ---- children ---- */

static volatile int stop;
static void *churn_on(void *argument) { while (!stop) churn(1); return NULL; }

static void with_churning_threads(void (*body)(void))
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        CHECK(!pthread_create(threads + i, NULL, churn_on, NULL));
    body();
    stop = 1;
    for (int i = 0; i < 3; i++)
        CHECK(!pthread_join(threads[i], NULL));
}

static void forks(void)
{
    for (int i = 0; i < 200; i++) {
        pid_t child = fork();
        if (child == 0) {
            if (i % 10 == 0) {
                run_thread(nothing, NULL);
                pid_t grandchild = fork();
                if (grandchild == 0)
                    child_works();
                expect_success(grandchild);
            }
            child_works();
        }
        expect_success(child);
    }
}

static void fork_storm(void) { with_churning_threads(forks); }

/* The other threads are at rest when the clone is made: nothing is torn. */
static void *waits(void *argument) { churn(5); pause(); return NULL; }
static void raw_clone_child(void)
{
    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, waits, NULL));
    usleep(20000);
    for (int i = 0; i < 100; i++) {
        pid_t child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (child == 0)
            child_works();
        expect_success(child);
    }
}

static volatile int in_child;

/* The handler may have interrupted malloc, so neither side allocates in it; the child goes on
 * from there as the parent does. */
static void fork_now(int signal)
{
    int saved = errno;
    pid_t child = fork();
    if (child == 0) {
        in_child = 1;
        return;
    }
    expect_success(child);
    errno = saved;
}

static void fork_in_signal_handler(void)
{
    signal(SIGALRM, fork_now);
    for (int i = 0; i < 150; i++) {
        ualarm(50 + i, 0);
        churn(300);
        if (in_child)
            child_works();
    }
}

static void vfork_spawn(void)
{
    run_thread(nothing, NULL);
    for (int i = 0; i < 50; i++) {
        pid_t child = vfork();
        if (child == 0) {
            free(malloc(50));
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        expect_success(child);
        churn(2);
    }
    CHECK(system("true") == 0);
}

static char stacks[8][65536];
static int shares_memory(void *argument) { churn(20); return 0; }
static void clone_without_libc(void)
{
    for (int i = 0; i < 8; i++) {
        expect_success(clone(shares_memory, stacks[i] + sizeof stacks[i], CLONE_VM | SIGCHLD, NULL));
        churn(20);
    }
}

/* ---- rules ---- */

static void errno_kept(void)
{
    errno = 77;
    for (int i = 0; i < 100000; i++)
        free(malloc(i));
    free(realloc(calloc(10, 10), 50000));
    void *out = &out;
    CHECK(posix_memalign(&out, 3, 10) == EINVAL && out == &out);
    CHECK(posix_memalign(&out, 16, (size_t)1 << 60) == ENOMEM && out == &out);
    CHECK(errno == 77);
    CHECK(!malloc((size_t)1 << 60) && errno == ENOMEM);
    errno = 0;
    CHECK(!calloc((size_t)1 << 40, (size_t)1 << 40) && errno == ENOMEM);
    errno = 0;
    CHECK(!reallocarray(NULL, (size_t)1 << 40, (size_t)1 << 40) && errno == ENOMEM);
    errno = 0;
    CHECK(!aligned_alloc(48, 100) && errno == EINVAL);
    CHECK(!malloc(-1) && !malloc(PTRDIFF_MAX));
}

static void alignment(void)
{
    for (int log = 0; log < 24; log++)
        for (size_t size = 0; size < 70000; size = size * 3 / 2 + 1) {
            size_t align = (size_t)1 << log;
            char *block = memalign(align, size);
            CHECK(block && ((uintptr_t)block & (align - 1)) == 0);
            CHECK(malloc_usable_size(block) >= size);
            memset(block, 1, malloc_usable_size(block));
            free(block);
        }
    CHECK(realloc(NULL, 0) && reallocarray(NULL, 0, 16));
    CHECK(((uintptr_t)valloc(5) & 4095) == 0 && ((uintptr_t)pvalloc(5) & 4095) == 0);
    CHECK(malloc_usable_size(pvalloc(5)) >= 4096);
}

static void *frees(void *block) { free(block); return NULL; }
static void thread_churn(void)
{
    for (int i = 0; i < 5000; i++) {
        pthread_t thread;
        CHECK(!pthread_create(&thread, NULL, frees, malloc(i % 3000)));
        CHECK(!pthread_join(thread, NULL));
    }
    struct mallinfo2 info = mallinfo2();
    CHECK(info.arena < 32 << 20);
}

static const struct { const char *name; void (*body)(void); } hazards[] = {
#define HAZARD(name) { #name, name }
    HAZARD(free_after_tls_destroyed), HAZARD(first_call_kinds), HAZARD(exit_and_cancel),
    HAZARD(fork_storm), HAZARD(raw_clone_child), HAZARD(fork_in_signal_handler), HAZARD(vfork_spawn),
    HAZARD(clone_without_libc), HAZARD(errno_kept), HAZARD(alignment), HAZARD(thread_churn),
};

int main(int count, char **arguments)
{
    free(NULL);
    alarm(100);
    for (size_t i = 0; count > 1 && i < sizeof hazards / sizeof *hazards; i++)
        if (!strcmp(hazards[i].name, arguments[1])) {
            hazards[i].body();
            return 0;
        }
    return 2;
}
