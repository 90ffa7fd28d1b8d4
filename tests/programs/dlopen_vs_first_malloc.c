/* While this program is inside dlopen and the loader's lock is held, a thread makes its first calls
 * to the allocator and dlopen waits for it. And the other way round: threads make their first calls
 * while others open and close libraries. */
#include "victim.h"

static const char *plugin;
static int stop;

static void *open_and_close(void *unused) {
    for (int i = 0; i < 30; i++) {
        void *library = dlopen(plugin, RTLD_NOW);
        CHECK(library != NULL);
        void (*touch)(void) = (void (*)(void))dlsym(library, "touch_tls");
        CHECK(touch != NULL);
        touch();
        CHECK(dlclose(library) == 0);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    return unused;
}

static void *first_calls(void *seed) {
    exercise((uintptr_t)seed, 50);
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    plugin = argv[1];
    pthread_t opener = start(open_and_close, NULL);
    for (uintptr_t i = 1; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
        join(i % 2 ? start(first_calls, (void *)i) : start_untold(first_calls, (void *)i));
    }
    join(opener);
}
