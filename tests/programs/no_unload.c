/* dlopens the library (argv[1]), uses it in threads that outlive its dlclose. */
#include "victim.h"

static void *(*its_malloc)(size_t);
static void (*its_free)(void *);
static pthread_barrier_t used, closed;

static void *use(void *unused) {
    void *block[100];
    for (int i = 0; i < 100; i++) {
        block[i] = its_malloc(100);
        CHECK(block[i] != NULL);
    }
    pthread_barrier_wait(&used);
    pthread_barrier_wait(&closed);
    for (int i = 0; i < 100; i++) {
        its_free(block[i]);
    }
    return unused; /* the destructor of the library's key runs now */
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && !rcumalloc_present());
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL);
    its_malloc = (void *(*)(size_t))dlsym(library, "malloc");
    its_free = (void (*)(void *))dlsym(library, "free");
    pthread_barrier_init(&used, NULL, 3);
    pthread_barrier_init(&closed, NULL, 3);
    pthread_t one = start(use, NULL), two = start(use, NULL);
    pthread_barrier_wait(&used);
    while (dlclose(library) == 0 && dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) == NULL) {
    }
    pthread_barrier_wait(&closed);
    join(one);
    join(two);
    pid_t child = fork();
    if (child == 0) {
        exit(0);
    }
    reap(child);
    dprintf(1, "done\n");
}
