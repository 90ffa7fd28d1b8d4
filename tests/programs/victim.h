/* What the victims share: checks, patterns, memory figures. */
#ifndef VICTIM_H
#define VICTIM_H

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rcumalloc.h"

#define UNUSED __attribute__((unused))

/* Ends the victim with a line that says where, unless it holds. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            dprintf(2, "%s:%d: not true: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* Prints a figure for the test to look at. */
#define PRINT(name, value) dprintf(1, "%s %llu\n", name, (unsigned long long)(value))

static inline UNUSED uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static inline UNUSED void sleep_ms(unsigned ms) {
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    while (nanosleep(&t, &t) != 0 && errno == EINTR) {
    }
}

/* Threads of this process, the library's own among them. */
static inline UNUSED int thread_count(void) {
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL);
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        count += task->d_name[0] != '.';
    }
    closedir(tasks);
    return count;
}

/* A line "NAME: N kB" of /proc/self/status, read without malloc. */
static inline UNUSED long status_kib(const char *name) {
    char text[8192];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    ssize_t n = read(fd, text, sizeof text - 1);
    CHECK(n > 0);
    close(fd);
    text[n] = 0;
    const char *line = strstr(text, name);
    CHECK(line != NULL);
    return strtol(line + strlen(name), NULL, 10);
}

static inline UNUSED long hwm_kib(void) { return status_kib("VmHWM:"); }
static inline UNUSED long rss_kib(void) { return status_kib("VmRSS:"); }

static inline UNUSED struct rcumalloc_stats stats(void) {
    struct rcumalloc_stats s;
    CHECK(rcumalloc_present());
    CHECK(rcumalloc_stats(&s, sizeof s));
    return s;
}

/* xorshift: a cheap sequence of one's own per thread. */
static inline UNUSED uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Fills a block with a pattern made of its address and a seed; checks it. */
static inline UNUSED void fill(void *block, size_t size, unsigned seed) {
    memset(block, (int)(((uintptr_t)block >> 4) ^ seed) & 0xff, size);
}
static inline UNUSED bool filled(const void *block, size_t size, unsigned seed) {
    const unsigned char *bytes = (const unsigned char *)block;
    unsigned char want = (unsigned char)(((uintptr_t)block >> 4) ^ seed);
    return size == 0 || (bytes[0] == want && memcmp(bytes, bytes + 1, size - 1) == 0);
}

static inline UNUSED pthread_t start(void *(*run)(void *), void *argument) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, argument) == 0);
    return thread;
}
static inline UNUSED void join(pthread_t thread) { CHECK(pthread_join(thread, NULL) == 0); }

/* libc's own pthread_create, past the library's: a thread the library has not been told of, as
 * those that libc makes for itself. */
typedef int create_function(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
static inline UNUSED pthread_t start_untold(void *(*run)(void *), void *argument) {
    static create_function *create;
    if (create == NULL) {
        void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
        CHECK(libc != NULL);
        create = (create_function *)dlsym(libc, "pthread_create");
        CHECK(create != NULL);
    }
    pthread_t thread;
    CHECK(create(&thread, NULL, run, argument) == 0);
    return thread;
}

/* A block for a while: allocates, fills, checks, frees, over sizes from 1 byte to 1 MiB. */
static inline UNUSED void exercise(uint64_t seed, int rounds) {
    enum { SLOTS = 64 };
    char *block[SLOTS] = {0};
    size_t size[SLOTS] = {0};
    seed = seed * 2654435761u + 88172645463325252u;
    for (int i = 0; i < rounds; i++) {
        unsigned at = next_random(&seed) % SLOTS;
        if (block[at] != NULL) {
            CHECK(filled(block[at], size[at], at));
            if (next_random(&seed) % 8 == 0) {
                size_t more = size[at] * 2 + 1;
                char *moved = (char *)realloc(block[at], more);
                CHECK(moved != NULL);
                memset(moved, 1, more);
                free(moved);
            } else {
                free(block[at]);
            }
        }
        unsigned shift = (unsigned)(next_random(&seed) % (next_random(&seed) % 16 == 0 ? 20 : 11));
        size[at] = next_random(&seed) % ((size_t)1 << shift) + 1;
        block[at] = (char *)malloc(size[at]);
        CHECK(block[at] != NULL);
        fill(block[at], size[at], at);
    }
    for (unsigned at = 0; at < SLOTS; at++) {
        CHECK(block[at] == NULL || filled(block[at], size[at], at));
        free(block[at]);
    }
}

/* Waits for a child and checks that it ended well. */
static inline UNUSED void reap(pid_t pid) {
    int status = -1;
    CHECK(pid > 0);
    while (waitpid(pid, &status, 0) < 0) {
        CHECK(errno == EINTR);
    }
    if (status != 0) {
        dprintf(2, "child %d ended with status %#x\n", (int)pid, status);
        _exit(1);
    }
}

#endif
