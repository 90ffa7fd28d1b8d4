// flags: -Wl,-z,now
/* `small_stack depth`: how far below its caller's frame each kind of call reaches: it runs on a painted
 * stack. `small_stack coroutines`: coroutines with stacks of 4 KiB, which threads pass among themselves.
 * With `thread` behind it: beside an idle thread. */
#include "victim.h"
#include <sys/resource.h>
#include <ucontext.h>

static void *idle(void *nothing) {
    for (;;) {
        pause();
    }
    return nothing;
}

/* ---- depth ---- */

enum { STACK = 64 * 1024, PAINT = 0xA5, HELD = 8000 };
static ucontext_t outside, inside;
static void (*work)(void);
static char *bottom;
static void *held[HELD];

static void run(void) {
    work();
    swapcontext(&inside, &outside);
}

/* Bytes of the stack that `what` has written to. */
static size_t depth_of(void (*what)(void)) {
    work = what;
    memset(bottom, PAINT, STACK);
    CHECK(getcontext(&inside) == 0);
    inside.uc_stack.ss_sp = bottom;
    inside.uc_stack.ss_size = STACK;
    makecontext(&inside, run, 0);
    CHECK(swapcontext(&outside, &inside) == 0);
    size_t clean = 0;
    while (clean < STACK && (unsigned char)bottom[clean] == PAINT) {
        clean++;
    }
    return STACK - clean;
}

static void nothing(void) {}

static void mix(size_t most, int rounds) {
    static uint64_t seed = 88172645463325252u;
    for (int round = 0; round < rounds; round++) {
        for (int at = 0; at < HELD; at++) {
            size_t size = next_random(&seed) % most + 1;
            if (held[at] == NULL) {
                held[at] = malloc(at % 50 != 0 && most > 40000 ? 100 : size);
            } else if (next_random(&seed) % 5 == 0) {
                held[at] = realloc(held[at], size);
            } else {
                free(held[at]);
                held[at] = NULL;
            }
        }
    }
}
static void small(void) { mix(1000, 20); }
static void medium(void) { mix(30000, 10); }
static void large(void) { mix(300000, 10); }
static void release(void) {
    for (int at = 0; at < HELD; at++) {
        free(held[at]);
        held[at] = NULL;
    }
}
static void aligned(void) {
    for (size_t align = 16; align <= 1 << 20; align *= 2) {
        void *block = NULL;
        CHECK(posix_memalign(&block, align, align / 2 + 1) == 0);
        free(block);
        free(calloc(align, 3));
    }
}
static void trim(void) {
    malloc_trim(0);
    rcumalloc_shrink_scan(SIZE_MAX);
    rcumalloc_pressure(2);
}
static void barrier(void) { rcumalloc_barrier(); }
/* Wrong calls, which are reported. */
static void wrong(void) {
    char *block = malloc(100), *big = malloc(100000), *other = malloc(100);
    free(other);
    free(block);
    free(block);
    free(block + 8);
    free(&block);
    free(big + 16);
    free(big);
    free(big);
    free((void *)0x10);
    rcumalloc_read_unlock();
    malloc_usable_size(block + 1);
    rcumalloc_barrier();
}
static void sections(void) {
    rcumalloc_read_lock();
    small();
    rcumalloc_read_unlock();
}
/* Nothing more is to be had. */
static void starved(void) {
    struct rlimit limit = {256 << 20, 256 << 20};
    setrlimit(RLIMIT_AS, &limit);
    for (int at = 0; at < HELD; at++) {
        held[at] = malloc(at % 4 == 0 ? (size_t)1 << 27 : 20000);
    }
}
static void figures(void) {
    static struct rcumalloc_stats figures;
    rcumalloc_stats(&figures, sizeof figures);
    mallinfo2();
    rcumalloc_stats_write(open("/dev/null", O_WRONLY), "json");
}

static void depths(void) {
    static const struct {
        const char *name;
        void (*work)(void);
    } kinds[] = {{"nothing", nothing}, {"small", small},     {"medium", medium}, {"large", large},
                 {"aligned", aligned}, {"trim", trim},       {"release", release}, {"small", small},
                 {"wrong", wrong},     {"sections", sections}, {"figures", figures}, {"barrier", barrier},
                 {"release", release}, {"starved", starved}, {"release", release}, {"trim", trim}};
    bottom = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(bottom != MAP_FAILED);
    size_t own = depth_of(nothing);
    /* A process's first section has libc's loader look for functions, which needs what libc needs. */
    rcumalloc_read_lock();
    rcumalloc_read_unlock();
    for (size_t at = 0; at < sizeof kinds / sizeof *kinds; at++) {
        PRINT(kinds[at].name, depth_of(kinds[at].work) - own);
    }
}

/* ---- coroutines ---- */

enum { COROUTINES = 100, THREADS = 3, ROUNDS = 20, BLOCKS = 32 };
struct coroutine {
    ucontext_t context, back;
    unsigned number;
    bool done;
    void *block[BLOCKS];
};
static struct coroutine *queue[COROUTINES];
static int queued, unfinished = COROUTINES;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void coroutine(unsigned low, unsigned high) {
    struct coroutine *self = (struct coroutine *)((uintptr_t)high << 32 | low);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned at = 0; at < BLOCKS; at++) {
            size_t size = (self->number * 31 + round * 7 + at) * 2654435761u % 60000 + 1;
            self->block[at] = malloc(size);
            memset(self->block[at], (int)self->number, size < 64 ? size : 64);
            if (at % 16 == 0) {
                self->block[at] = realloc(self->block[at], size * 2);
            }
        }
        swapcontext(&self->context, &self->back);
        for (unsigned at = 0; at < BLOCKS; at++) {
            if (*(unsigned char *)self->block[at] != (unsigned char)self->number) {
                abort();
            }
            free(self->block[at]);
        }
    }
    self->done = true;
    swapcontext(&self->context, &self->back);
}

static void *worker(void *unused) {
    for (;;) {
        pthread_mutex_lock(&mutex);
        struct coroutine *next = queued != 0 ? queue[--queued] : NULL;
        int left = unfinished;
        pthread_mutex_unlock(&mutex);
        if (next == NULL) {
            if (left == 0) {
                return unused;
            }
            sched_yield();
            continue;
        }
        swapcontext(&next->back, &next->context);
        pthread_mutex_lock(&mutex);
        if (next->done) {
            unfinished--;
        } else {
            memmove(queue + 1, queue, (size_t)queued * sizeof *queue);
            queue[0] = next;
            queued++;
        }
        pthread_mutex_unlock(&mutex);
    }
}

static void coroutines(void) {
    for (unsigned at = 0; at < COROUTINES; at++) {
        struct coroutine *made = calloc(1, sizeof *made);
        made->number = at + 1;
        CHECK(getcontext(&made->context) == 0);
        char *stack = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(stack != MAP_FAILED && mprotect(stack, 4096, PROT_NONE) == 0);
        made->context.uc_stack.ss_sp = stack + 4096;
        made->context.uc_stack.ss_size = 4096;
        makecontext(&made->context, (void (*)(void))coroutine, 2, (unsigned)(uintptr_t)made,
                    (unsigned)((uintptr_t)made >> 32));
        queue[queued++] = made;
    }
    pthread_t thread[THREADS];
    for (int at = 0; at < THREADS; at++) {
        thread[at] = start(worker, NULL);
    }
    for (int at = 0; at < THREADS; at++) {
        join(thread[at]);
    }
}

int main(int argc, char **argv) {
    CHECK(argc >= 2 && rcumalloc_present());
    if (argc > 2 && strcmp(argv[2], "thread") == 0) {
        start(idle, NULL);
    }
    if (strcmp(argv[1], "depth") == 0) {
        depths();
    } else {
        coroutines();
    }
    dprintf(1, "done\n");
    _exit(0);
}
