// flags: -shared -fPIC
/* A library that interposes what an allocator's start might call. Each of its functions finds the
 * real one with dlsym and allocates, as real ones do, and counts calls made while the program is in
 * its first malloc. */
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

int interposer_watching;
int interposer_calls;
const char *interposer_last = "";

static void *real(const char *name) {
    if (interposer_watching) {
        interposer_calls++;
        interposer_last = name;
    }
    void *function = dlsym(RTLD_NEXT, name);
    char *volatile memory = calloc(1, 100);
    memory[99]++;
    free(memory);
    return function;
}

#define INTERPOSE(result, name, parameters, arguments) \
    result name parameters { return ((result(*) parameters)real(#name)) arguments; }

INTERPOSE(char *, getenv, (const char *name), (name))
INTERPOSE(char *, secure_getenv, (const char *name), (name))
INTERPOSE(void *, mmap, (void *a, size_t l, int p, int f, int fd, off_t o), (a, l, p, f, fd, o))
INTERPOSE(void *, mmap64, (void *a, size_t l, int p, int f, int fd, off_t o), (a, l, p, f, fd, o))
INTERPOSE(int, munmap, (void *a, size_t l), (a, l))
INTERPOSE(int, mprotect, (void *a, size_t l, int p), (a, l, p))
INTERPOSE(int, madvise, (void *a, size_t l, int p), (a, l, p))
INTERPOSE(ssize_t, read, (int fd, void *b, size_t n), (fd, b, n))
INTERPOSE(int, close, (int fd), (fd))
INTERPOSE(long, sysconf, (int n), (n))
INTERPOSE(int, getpagesize, (void), ())
INTERPOSE(int, sched_getaffinity, (pid_t p, size_t n, cpu_set_t *s), (p, n, s))
INTERPOSE(pid_t, getpid, (void), ())
INTERPOSE(pid_t, gettid, (void), ())
INTERPOSE(int, open, (const char *path, int flags, ...), (path, flags, 0))
INTERPOSE(int, open64, (const char *path, int flags, ...), (path, flags, 0))
INTERPOSE(int, openat, (int at, const char *path, int flags, ...), (at, path, flags, 0))
INTERPOSE(int, pthread_atfork, (void (*a)(void), void (*b)(void), void (*c)(void)), (a, b, c))
INTERPOSE(int, pthread_key_create, (pthread_key_t * k, void (*d)(void *)), (k, d))
INTERPOSE(int, pthread_setspecific, (pthread_key_t k, const void *v), (k, v))
INTERPOSE(int, pthread_mutex_lock, (pthread_mutex_t * m), (m))
INTERPOSE(int, pthread_once, (pthread_once_t * o, void (*f)(void)), (o, f))
