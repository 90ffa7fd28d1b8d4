// TBB's scalable_* functions over malloc: its tests then ask them of whatever malloc there is.

#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static bool is_alignment(size_t alignment) {
    return alignment != 0 && (alignment & (alignment - 1)) == 0;
}

void *scalable_malloc(size_t size) {
    return malloc(size);
}

void scalable_free(void *block) {
    free(block);
}

void *scalable_realloc(void *block, size_t size) {
    return realloc(block, size);
}

void *scalable_calloc(size_t count, size_t size) {
    return calloc(count, size);
}

int scalable_posix_memalign(void **block, size_t alignment, size_t size) {
    return posix_memalign(block, alignment, size);
}

void *scalable_aligned_malloc(size_t size, size_t alignment) {
    if (size == 0 || !is_alignment(alignment)) {
        errno = EINVAL;
        return NULL;
    }
    return memalign(alignment, size);
}

void *scalable_aligned_realloc(void *block, size_t size, size_t alignment) {
    if (!is_alignment(alignment)) {
        errno = EINVAL;
        return NULL;
    }
    if (block == NULL) {
        return scalable_aligned_malloc(size, alignment);
    }
    void *moved = size == 0 ? NULL : memalign(alignment, size);
    if (moved != NULL) {
        size_t usable = malloc_usable_size(block);
        memcpy(moved, block, usable < size ? usable : size);
    }
    if (moved != NULL || size == 0) {
        free(block);
    }
    return moved;
}

void scalable_aligned_free(void *block) {
    free(block);
}

size_t scalable_msize(void *block) {
    if (block == NULL) {
        errno = EINVAL;
    }
    return malloc_usable_size(block);
}

int scalable_allocation_mode(int mode, intptr_t value) {
    (void)mode, (void)value;
    return 0;
}

int scalable_allocation_command(int command, void *argument) {
    (void)command, (void)argument;
    return 0;
}
