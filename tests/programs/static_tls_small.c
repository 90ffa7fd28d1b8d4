/* dlopens the library (argv[1]) when other libraries (argv[2…], the largest first) have eaten the
 * static thread-local storage that the loader keeps for this, until there is no room for a library
 * with 64 bytes of it. Then uses it from two threads. */
#include "victim.h"

static void *(*its_malloc)(size_t);
static void (*its_free)(void *);
static size_t (*its_usable_size)(void *);

static void *use(void *unused) {
    for (size_t size = 1; size < 100000; size += size / 3 + 1) {
        char *block = its_malloc(size);
        CHECK(block != NULL && its_usable_size(block) >= size);
        memset(block, 1, size);
        its_free(block);
    }
    return unused;
}

int main(int argc, char **argv) {
    CHECK(!rcumalloc_present());
    int refused = 0;
    for (int i = 2; i < argc; i++) {
        if (dlopen(argv[i], RTLD_NOW) == NULL) {
            CHECK(strstr(dlerror(), "static TLS") != NULL);
            refused++;
        }
    }
    PRINT("refused", refused);
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        dprintf(2, "%s\n", dlerror());
        return 1;
    }
    its_malloc = (void *(*)(size_t))dlsym(library, "malloc");
    its_free = (void (*)(void *))dlsym(library, "free");
    its_usable_size = (size_t(*)(void *))dlsym(library, "malloc_usable_size");
    use(NULL);
    pthread_t thread = start(use, NULL);
    use(NULL);
    join(thread);
}
