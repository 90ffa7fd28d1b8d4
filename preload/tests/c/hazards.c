/* One hazard a function, named as in tests/rows.txt. Run as: hazards NAME. Exit status 0 is success.
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
#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/time.h>

#define CHECK(what) \
    do { if (!(what)) { fprintf(stderr, "%s: failed: %s\n", __func__, #what); exit(1); } } while (0)

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
    alarm(60);
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

static volatile int hammering = 1;

static void *hammers(void *argument)
{
    void *kept[256] = {0};
    for (unsigned at = 0, random = 1 + (argument == hammers); hammering; at++) {
        random = random * 1103515245 + 12345;
        free(kept[at % 256]);
        kept[at % 256] = malloc(random >> 8 & (at % 64 ? 4095 : 262143));
        if (at % 4096 == 0)
            malloc_trim(0);
    }
    return NULL;
}

/* The child finds whatever was being changed at that moment, and works. */
static void raw_clone_amid_malloc(void)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        CHECK(!pthread_create(&threads[i], NULL, hammers, i ? hammers : NULL));
    usleep(5000);
    for (int i = 0; i < 600; i++) {
        pid_t child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (child == 0)
            child_works();
        expect_success(child);
    }
    _exit(0);
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
    CHECK(errno == 77);
    /* As glibc's: programs look at errno there, too. */
    CHECK(posix_memalign(&out, 16, (size_t)1 << 60) == ENOMEM && out == &out && errno == ENOMEM);
    errno = 0;
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

/* ---- a limit on the address space ---- */

static size_t fill_and_free(size_t size)
{
    static void *block[1 << 20];
    size_t count = 0;
    while (count < sizeof block / sizeof *block && (block[count] = malloc(size)))
        memset(block[count++], 1, 16);
    CHECK(count == sizeof block / sizeof *block || errno == ENOMEM);
    for (size_t i = 0; i < count; i++)
        free(block[i]);
    malloc_trim(0);
    return count * size;
}

static void limited_victim(void)
{
    for (int round = 0; round < 2; round++) {
        size_t sizes[] = {40, 5000, 100000, 700, 16, 90, 20000, 180, 3000};
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            size_t got = fill_and_free(sizes[i]) >> 20;
            if (got < (sizes[i] < 30 ? 15 : 24))
                fprintf(stderr, "round %d: %zu MiB of %zu bytes\n", round, got, sizes[i]), exit(1);
        }
    }
}

/* What one class has given back, every other class can have, though nothing more can be mapped. */
static void rlimit_as(void)
{
    extern char **environ;
    struct rlimit limit = {64 << 20, 64 << 20};
    pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_AS, &limit);
        execl("/proc/self/exe", "hazards", "limited_victim", NULL);
        _exit(1);
    }
    expect_success(child);
}

/* ---- what a small program costs ---- */

static long rollup_kib(const char *name)
{
    static char text[4096]; /* no stdio: it allocates */
    int file = open("/proc/self/smaps_rollup", O_RDONLY);
    CHECK(file >= 0 && read(file, text, sizeof text - 1) > 0);
    return atol(strstr(text, name) + strlen(name));
}

static void print_memory(void)
{
    char line[64];
    if (getenv("ARG"))
        *(volatile char *)malloc(100) = 1;
    long anonymous = rollup_kib("Anonymous:"), rss = rollup_kib("Rss:");
    write(1, line, snprintf(line, sizeof line, "%ld %ld\n", anonymous, rss));
}

/* ---- a signal handler's first read-side section ---- */

static void (*read_lock)(void), (*read_unlock)(void);
static volatile int sections;

static void section(int signal)
{
    int saved = errno;
    read_lock();
    sections++;
    read_unlock();
    errno = saved;
}

static void *storm_thread(void *spawns)
{
    free(malloc(100));
    pthread_t thread;
    if (spawns && !pthread_create(&thread, NULL, storm_thread, NULL))
        pthread_join(thread, NULL);
    for (int i = 0; i < 50; i++)
        free(malloc(16 << i % 12));
    return NULL;
}

/* One process: the first signal comes after ARG microseconds, the others every 40. */
static void first_lock_victim(void)
{
    read_lock = dlsym(RTLD_DEFAULT, "rcumalloc_read_lock");
    read_unlock = dlsym(RTLD_DEFAULT, "rcumalloc_read_unlock");
    CHECK(read_lock && read_unlock);
    long delay = atol(getenv("ARG"));
    void *kept[64] = {0};
    signal(SIGALRM, section);
    struct itimerval storm = {{0, 40}, {0, delay}};
    alarm(0);
    setitimer(ITIMER_REAL, &storm, NULL);
    pthread_t threads[4];
    for (int round = 0; round < 6 || (!sections && round < 10000); round++) {
        for (int i = 0; i < 64; i++) {
            free(kept[i]);
            kept[i] = malloc(24 << (i + round) % 13);
        }
        if (round % 2) {
            int made = 0;
            while (made < 4 && !pthread_create(&threads[made], NULL, storm_thread, "spawns")) {
                pthread_kill(threads[made], SIGALRM);
                made++;
            }
            while (made > 0)
                pthread_join(threads[--made], NULL);
        }
    }
    _exit(0);
}

static void first_lock_in_handler(void)
{
    extern char **environ;
    if (!dlsym(RTLD_DEFAULT, "rcumalloc_read_lock"))
        return;
    for (int i = 0; i < 400; i++) {
        char number[16], *arguments[] = {"hazards", "first_lock_victim", NULL};
        snprintf(number, sizeof number, "%d", 1 + i);
        setenv("ARG", number, 1);
        pid_t child;
        CHECK(!posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ));
        int status = 0, waited = 0;
        while (waitpid(child, &status, WNOHANG) == 0)
            if (usleep(200), ++waited == 100000) {
                kill(child, SIGKILL);
                fprintf(stderr, "hangs with a first signal after %d us\n", 1 + i);
                exit(1);
            }
        CHECK(status == 0);
    }
}

/* Blocks come to rest with threads that never call the allocator again: consumers, one after the
 * other, that freed them, and producers that made them. Others must be able to use them. */
enum { IDLERS = 40, IDLE_BLOCKS = 64 * 1024, IDLE_SIZE = 128 }; /* 8 MiB a round */
static void *idle_block[IDLE_BLOCKS];
static pthread_barrier_t idle_turn;

static void make_blocks(void)
{
    for (int i = 0; i < IDLE_BLOCKS; i++) {
        idle_block[i] = malloc(IDLE_SIZE);
        CHECK(idle_block[i]);
        memset(idle_block[i], 1, IDLE_SIZE);
    }
}

static void free_blocks(void)
{
    for (int i = 0; i < IDLE_BLOCKS; i++)
        free(idle_block[i]);
}

static void *idle_after(void *act)
{
    ((void (*)(void))act)();
    pthread_barrier_wait(&idle_turn);
    for (;;)
        pause();
}

static long status_kib(const char *name)
{
    char line[256];
    long kib = -1;
    FILE *status = fopen("/proc/self/status", "r");
    CHECK(status);
    while (fgets(line, sizeof line, status))
        if (!strncmp(line, name, strlen(name)))
            kib = atol(line + strlen(name));
    fclose(status);
    return kib;
}

static void producer_consumer_idle_owner(void)
{
    pthread_t thread;
    pthread_barrier_init(&idle_turn, NULL, 2);
    for (int i = 0; i < 2 * IDLERS; i++) {
        int consumer = i < IDLERS;
        if (consumer)
            make_blocks();
        CHECK(!pthread_create(&thread, NULL, idle_after, consumer ? free_blocks : make_blocks));
        pthread_barrier_wait(&idle_turn);
        if (!consumer)
            free_blocks();
    }
    long peak = status_kib("VmHWM:");
    if (peak >= 40 * 1024)
        fprintf(stderr, "peak of %ld KiB\n", peak);
    _exit(0);
}

static const struct { const char *name; void (*body)(void); } hazards[] = {
#define HAZARD(name) { #name, name }
    HAZARD(free_after_tls_destroyed), HAZARD(first_call_kinds), HAZARD(exit_and_cancel),
    HAZARD(fork_storm), HAZARD(raw_clone_child), HAZARD(raw_clone_amid_malloc),
    HAZARD(fork_in_signal_handler), HAZARD(vfork_spawn),
    HAZARD(clone_without_libc), HAZARD(errno_kept), HAZARD(alignment), HAZARD(thread_churn),
    HAZARD(producer_consumer_idle_owner), HAZARD(first_lock_in_handler), HAZARD(first_lock_victim),
    HAZARD(print_memory), HAZARD(rlimit_as), HAZARD(limited_victim),
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
