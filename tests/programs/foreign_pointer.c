/* Frees, resizes or measures an address the heap never gave out: `foreign_pointer CALL WHAT`.
 * Prints the address first. */
#include "victim.h"
#include <link.h>

static int in_data[4];

static int find_name(struct dl_phdr_info *info, size_t size, void *out) {
    (void)size;
    if (strstr(info->dlpi_name, "libc.so") != NULL) {
        *(const char **)out = info->dlpi_name; /* from ld.so's own early malloc */
    }
    return 0;
}

static void *address(const char *what, int *on_stack) {
    if (strcmp(what, "stack") == 0) {
        return on_stack;
    } else if (strcmp(what, "data") == 0) {
        return in_data;
    } else if (strcmp(what, "code") == 0) {
        return (void *)(uintptr_t)&find_name;
    } else if (strcmp(what, "loader") == 0) {
        const char *name = NULL;
        dl_iterate_phdr(find_name, &name);
        return (void *)(uintptr_t)name;
    } else if (strcmp(what, "mapping") == 0) {
        return mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    } else if (strcmp(what, "no_access") == 0) {
        return mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    return (void *)(uintptr_t)strtoull(what, NULL, 16);
}

int main(int argc, char **argv) {
    int on_stack[4] = {0};
    CHECK(argc == 3 && rcumalloc_present());
    exercise(1, 100);
    void *block = address(argv[2], on_stack);
    dprintf(1, "address %#llx\n", (unsigned long long)(uintptr_t)block);
    if (strcmp(argv[1], "free") == 0) {
        free(block);
    } else if (strcmp(argv[1], "realloc") == 0) {
        block = realloc(block, 100);
    } else if (strcmp(argv[1], "malloc_usable_size") == 0) {
        malloc_usable_size(block);
    } else if (strcmp(argv[1], "rcumalloc_free") == 0) {
        rcumalloc_free(block);
    } else {
        rcumalloc_free_now(block);
    }
    exercise(2, 1000);
    PRINT("bad_calls", stats().bad_calls);
}
