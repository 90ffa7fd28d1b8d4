// rpmalloc's functions over malloc: its tests then ask them of whatever malloc there is. Its own heaps, its
// statistics and its finder of leaks have no counterpart; the suite leaves those tests out.

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include <rpmalloc.h>

static rpmalloc_config_t config = {.page_size = 4096};

int rpmalloc_initialize(void) {
    return 0;
}

int rpmalloc_initialize_config(const rpmalloc_config_t *wanted) {
    (void)wanted;
    return 0;
}

const rpmalloc_config_t *rpmalloc_config(void) {
    return &config;
}

void rpmalloc_finalize(void) {
}

void rpmalloc_thread_initialize(void) {
}

void rpmalloc_thread_finalize(int release_caches) {
    (void)release_caches;
}

void rpmalloc_thread_collect(void) {
}

int rpmalloc_is_thread_initialized(void) {
    return 1;
}

void *rpmalloc(size_t size) {
    return malloc(size);
}

void rpfree(void *block) {
    free(block);
}

void *rpcalloc(size_t count, size_t size) {
    return calloc(count, size);
}

void *rprealloc(void *block, size_t size) {
    return realloc(block, size);
}

void *rpaligned_alloc(size_t alignment, size_t size) {
    return memalign(alignment, size);
}

void *rpmemalign(size_t alignment, size_t size) {
    return memalign(alignment, size);
}

int rpposix_memalign(void **block, size_t alignment, size_t size) {
    return posix_memalign(block, alignment, size);
}

void *rpaligned_calloc(size_t alignment, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    void *block = memalign(alignment, bytes);
    return block == NULL ? NULL : memset(block, 0, bytes);
}

void *rpaligned_realloc(void *block, size_t alignment, size_t size, size_t old_size, unsigned int flags) {
    size_t usable = malloc_usable_size(block);
    (void)old_size;
    if (usable >= size) {
        return block;
    }
    void *moved = (flags & RPMALLOC_GROW_OR_FAIL) != 0 ? NULL : memalign(alignment, size);
    if (moved != NULL && (flags & RPMALLOC_NO_PRESERVE) == 0) {
        memcpy(moved, block, usable);
    }
    if (moved != NULL) {
        free(block);
    }
    return moved;
}

size_t rpmalloc_usable_size(void *block) {
    return malloc_usable_size(block);
}
