/* Stands in front of libc's clock as libfaketime and its like do: with thread-local storage that is allocated
 * when a thread first comes by, and with an allocation of its own in each call. */
// flags: -shared -fPIC
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int real_function(clockid_t, struct timespec *);
static real_function *real;
static __thread char history[64];
static __thread int depth;
static unsigned calls;

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (real == NULL) {
        real = (real_function *)dlsym(RTLD_NEXT, "clock_gettime");
    }
    if (depth++ == 0) {
        unsigned call = __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
        history[call % sizeof history]++;
        size_t size = call % 5 == 0 ? 300000 : 1 + call * 7919 % 40000;
        char *block = malloc(size);
        if (block != NULL) {
            memset(block, 1, size);
        }
        free(block);
    }
    depth--;
    return real(clock, time);
}

unsigned clock_calls(void) { return calls; }
