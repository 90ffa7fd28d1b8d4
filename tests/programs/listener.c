// flags: -shared -fPIC
/* A library that listens for memory that goes, as the registration cache of a network card does: it stands
 * in front of munmap and madvise, has a lock of its own, allocates and frees under that, and leaves a mess
 * in errno. It counts what it is told, and forgets the blocks that were registered of what goes. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { BLOCKS = 512 };

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static struct block {
    uintptr_t start, end;
} blocks[BLOCKS];

/* What it allocates is smaller than this. */
size_t listener_most = 8 << 20;
unsigned long listener_unmapped, listener_advised;
/* Calls that came while the calling thread had this set. */
_Thread_local int listener_deaf;
unsigned long listener_intrusions;

void listener_lock(void) { pthread_mutex_lock(&lock); }
void listener_unlock(void) { pthread_mutex_unlock(&lock); }

/* Registers a block; false: there are too many. */
int listener_register(const void *start, size_t size) {
    int done = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < BLOCKS && !done; i++) {
        if (blocks[i].end == 0) {
            blocks[i] = (struct block){(uintptr_t)start, (uintptr_t)start + size};
            done = 1;
        }
    }
    pthread_mutex_unlock(&lock);
    return done;
}

/* Registered block number `i`, if there is one. */
const void *listener_block(int i, size_t *size) {
    *size = blocks[i].end - blocks[i].start;
    return (const void *)blocks[i].start;
}

static void hear(uintptr_t start, size_t length) {
    pthread_mutex_lock(&lock);
    listener_intrusions += listener_deaf;
    for (int i = 0; i < BLOCKS; i++) {
        if (blocks[i].start < start + length && start < blocks[i].end) {
            blocks[i] = (struct block){0, 0};
        }
    }
    for (size_t size = 24; size < listener_most; size *= 7) {
        char *volatile memory = malloc(size);
        if (memory != NULL) {
            memory[size / 2] = 1;
        }
        free(memory);
    }
    pthread_mutex_unlock(&lock);
}

int munmap(void *start, size_t length) {
    int (*real)(void *, size_t) = (int (*)(void *, size_t))dlsym(RTLD_NEXT, "munmap");
    __atomic_fetch_add(&listener_unmapped, length, __ATOMIC_RELAXED);
    hear((uintptr_t)start, length);
    int result = real(start, length);
    errno = ENOTTY;
    return result;
}

int madvise(void *start, size_t length, int advice) {
    int (*real)(void *, size_t, int) = (int (*)(void *, size_t, int))dlsym(RTLD_NEXT, "madvise");
    if (advice == MADV_DONTNEED) {
        __atomic_fetch_add(&listener_advised, length, __ATOMIC_RELAXED);
        hear((uintptr_t)start, length);
    }
    int result = real(start, length, advice);
    errno = ENOTTY;
    return result;
}
