/* Records a program's calls of malloc and free: preloaded by `rcumalloc-bench record`.
 *
 * The calls themselves are served by glibc under its internal names, so nothing here needs dlsym and
 * nothing can recurse. Each thread writes 32-byte events into a chunk of the output file that is mapped
 * into the process: whatever way the process ends, what was written is in the file. Nothing is buffered,
 * nothing runs at exit.
 *
 * Order between threads comes from one counter. An event that gives up an address takes its number before
 * the call, one that obtains an address after it; so an address is never obtained before it has been given
 * up. A realloc does both and is two events.
 *
 * Only the process that was started is recorded: a forked child stops, and a program that a child executes
 * finds that the process is another and removes the variables. A program that the process itself executes
 * begins the file anew: whoever starts a script that executes the program meant the program.
 * RCUMALLOC_BENCH_RECORD names the output file, which src/trace/record.rs reads,
 * RCUMALLOC_BENCH_RECORD_PID the process. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

enum { MALLOC = 1, CALLOC, MEMALIGN, FREE, REALLOC_BEGIN, REALLOC_END };
enum { CHUNK = 64 << 10 };

struct event {
    uint64_t number, address, size;
    uint32_t thread;
    uint16_t alignment_log2;
    _Atomic uint16_t kind; /* written last: 0 is an event that was not finished */
};

#define LOCAL static __thread __attribute__((tls_model("initial-exec")))
LOCAL struct event *next_event, *end_of_chunk;
LOCAL uint32_t own_thread; /* 0: none yet */

static _Atomic uint64_t numbers = 1;
static _Atomic uint32_t threads;
static _Atomic uint64_t file_size;
static _Atomic int recording;
static char path[4096];
static pthread_key_t at_thread_end;

static void unmap_chunk(void *unused) {
    (void)unused;
    if (end_of_chunk) munmap((char *)end_of_chunk - CHUNK, CHUNK);
    next_event = end_of_chunk = 0;
}

static void forked(void) { recording = 0; }

__attribute__((constructor)) static void begin(void) {
    const char *to = getenv("RCUMALLOC_BENCH_RECORD"), *owner = getenv("RCUMALLOC_BENCH_RECORD_PID");
    if (!to || strlen(to) >= sizeof path) return;
    char own[16];
    snprintf(own, sizeof own, "%d", getpid());
    if (owner && strcmp(owner, own) != 0) {
        unsetenv("RCUMALLOC_BENCH_RECORD");
        unsetenv("RCUMALLOC_BENCH_RECORD_PID");
        unsetenv("LD_PRELOAD");
        return;
    }
    strcpy(path, to);
    if (owner ? truncate(path, 0) : setenv("RCUMALLOC_BENCH_RECORD_PID", own, 1)) return;
    if (pthread_key_create(&at_thread_end, unmap_chunk) || pthread_atfork(0, 0, forked)) return;
    recording = 1;
}

/* A new chunk of the file for this thread. The descriptor is closed at once: programs close what they do
 * not know. */
static int take_chunk(void) {
    unmap_chunk(0);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return 0;
    uint64_t at = atomic_fetch_add(&file_size, CHUNK);
    void *chunk = MAP_FAILED;
    if (!posix_fallocate(fd, at, CHUNK)) chunk = mmap(0, CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, at);
    close(fd);
    if (chunk == MAP_FAILED) {
        recording = 0; /* an incomplete trace is told by its gap in the numbers */
        return 0;
    }
    next_event = chunk;
    end_of_chunk = (struct event *)((char *)chunk + CHUNK);
    if (!own_thread) own_thread = atomic_fetch_add(&threads, 1) + 1;
    pthread_setspecific(at_thread_end, chunk);
    return 1;
}

static uint64_t number(void) { return recording ? atomic_fetch_add(&numbers, 1) : 0; }

static void write_event(uint64_t number, int kind, void *address, size_t size, size_t alignment) {
    if (!number) return;
    int saved = errno;
    if (next_event != end_of_chunk || take_chunk()) {
        struct event *event = next_event++;
        event->number = number, event->address = (uintptr_t)address, event->size = size;
        event->thread = own_thread, event->alignment_log2 = alignment ? __builtin_ctzl(alignment) : 0;
        atomic_store_explicit(&event->kind, kind, memory_order_release);
    }
    errno = saved;
}

static void *obtained(int kind, void *address, size_t size, size_t alignment) {
    if (address) write_event(number(), kind, address, size, alignment);
    return address;
}

void *malloc(size_t size) { return obtained(MALLOC, __libc_malloc(size), size, 0); }

void *calloc(size_t count, size_t each)
{
	return obtained(CALLOC, __libc_calloc(count, each), count * each, 0);
}

void free(void *address) {
    if (address) write_event(number(), FREE, address, 0, 0);
    __libc_free(address);
}

void *realloc(void *old, size_t size) {
    if (!old) return obtained(MALLOC, __libc_realloc(0, size), size, 0);
    if (!size) {
        write_event(number(), FREE, old, 0, 0);
        return __libc_realloc(old, 0);
    }
    write_event(number(), REALLOC_BEGIN, old, size, 0);
    void *moved = __libc_realloc(old, size);
    write_event(number(), REALLOC_END, moved, size, 0);
    return moved;
}

void *reallocarray(void *old, size_t count, size_t each) {
    size_t size;
    if (__builtin_mul_overflow(count, each, &size)) {
        errno = ENOMEM;
        return 0;
    }
    return realloc(old, size);
}

void *memalign(size_t alignment, size_t size) {
    return obtained(MEMALIGN, __libc_memalign(alignment, size), size, alignment);
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

void *valloc(size_t size) { return memalign(sysconf(_SC_PAGESIZE), size); }

int posix_memalign(void **to, size_t alignment, size_t size) {
    if (alignment % sizeof(void *) || !alignment || alignment & (alignment - 1)) return EINVAL;
    int saved = errno;
    void *address = memalign(alignment, size);
    errno = saved;
    if (!address) return ENOMEM;
    *to = address;
    return 0;
}
