/* `first_call_kinds process KIND`: KIND is the process's first call, before every constructor.
 * `first_call_kinds threads`: each kind is the first call of a thread, of those the library was told
 * of and of those it was not; and in an atexit handler, a key's destructor, a signal handler. */
#include "victim.h"

static void *given; /* a live block of 100 bytes for kinds that need one */
static pthread_key_t key;

static void kind_malloc(void) { free(malloc(1)); }
static void kind_malloc_large(void) { free(malloc(1 << 20)); }
static void kind_malloc_zero(void) { free(malloc(0)); }
static void kind_calloc(void) { free(calloc(10, 10)); }
static void kind_realloc_null(void) { free(realloc(NULL, 10)); }
static void kind_reallocarray(void) { free(reallocarray(NULL, 10, 10)); }
static void kind_aligned_alloc(void) { free(aligned_alloc(64, 64)); }
static void kind_memalign(void) { free(memalign(4096, 10)); }
static void kind_valloc(void) { free(valloc(10)); }
static void kind_pvalloc(void) { free(pvalloc(10)); }
static void kind_posix_memalign(void) {
    void *block = NULL;
    CHECK(posix_memalign(&block, 128, 100) == 0 && block != NULL);
    free(block);
}
static void kind_free_null(void) { free(NULL); }
static void kind_usable_null(void) { CHECK(malloc_usable_size(NULL) == 0); }
static void kind_impossible(void) { CHECK(malloc(SIZE_MAX) == NULL); }
static void kind_trim(void) { malloc_trim(0); }
static void kind_mallopt(void) { mallopt(M_MMAP_THRESHOLD, 1 << 20); }
static void kind_mallinfo2(void) { mallinfo2(); }
static void kind_stats(void) { stats(); }
static void kind_owner(void) {
    int here = 0;
    CHECK(!rcumalloc_owner(&here, NULL, 0));
}
static void kind_read_lock(void) {
    rcumalloc_read_lock();
    CHECK(rcumalloc_read_held());
    rcumalloc_read_unlock();
    CHECK(!rcumalloc_read_held());
}
static void kind_read_held(void) { CHECK(!rcumalloc_read_held()); }
static void kind_quiescent(void) { rcumalloc_quiescent_state(); }
static void kind_offline(void) {
    rcumalloc_thread_offline();
    rcumalloc_thread_online();
}
static void kind_poll(void) { rcumalloc_poll(rcumalloc_start_poll()); }
static void kind_synchronize(void) { rcumalloc_synchronize(); }
static void kind_expedited(void) { rcumalloc_synchronize_expedited(); }
static void kind_barrier(void) { rcumalloc_barrier(); }
static void kind_shrink(void) { rcumalloc_shrink_scan(rcumalloc_shrink_count()); }
static void kind_free(void) { free(given); }
static void kind_realloc(void) { given = realloc(given, 5000); CHECK(given != NULL); free(given); }
static void kind_realloc_zero(void) { CHECK(realloc(given, 0) == NULL); }
static void kind_usable(void) { CHECK(malloc_usable_size(given) >= 100); free(given); }
static void kind_rcu_free(void) { rcumalloc_free(given); }
static void kind_free_now(void) { rcumalloc_free_now(given); }
static void kind_free_bulk(void) { rcumalloc_free_bulk(&given, 1); }

typedef void kind_function(void);
static const struct {
    const char *name;
    kind_function *call;
    bool needs_block;
} kinds[] = {
#define KIND(name, needs) {#name, kind_##name, needs}
    KIND(malloc, 0), KIND(malloc_large, 0), KIND(malloc_zero, 0), KIND(calloc, 0), KIND(realloc_null, 0),
    KIND(reallocarray, 0), KIND(aligned_alloc, 0), KIND(memalign, 0), KIND(valloc, 0), KIND(pvalloc, 0),
    KIND(posix_memalign, 0), KIND(free_null, 0), KIND(usable_null, 0), KIND(impossible, 0), KIND(trim, 0),
    KIND(mallopt, 0), KIND(mallinfo2, 0), KIND(stats, 0), KIND(owner, 0), KIND(read_lock, 0),
    KIND(read_held, 0), KIND(quiescent, 0), KIND(offline, 0), KIND(poll, 0), KIND(synchronize, 0),
    KIND(expedited, 0), KIND(barrier, 0), KIND(shrink, 0), KIND(free, 1), KIND(realloc, 1),
    KIND(realloc_zero, 1), KIND(usable, 1), KIND(rcu_free, 1), KIND(free_now, 1), KIND(free_bulk, 1),
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static unsigned named(const char *name) {
    for (unsigned i = 0; i < KINDS; i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return i;
        }
    }
    CHECK(!"a kind of that name");
    return 0;
}

static void first_of_process(int argc, char **argv, char **envp) {
    (void)envp;
    if (argc == 3) {
        kinds[named(argv[2])].call();
    }
}
__attribute__((section(".preinit_array"), used)) static void (*preinit)(int, char **, char **) =
    first_of_process;

static void *directly(void *kind) {
    kinds[(uintptr_t)kind].call();
    exercise((uintptr_t)kind + 1, 20);
    return NULL;
}

static void destroy(void *kind) { kinds[(uintptr_t)kind - 1].call(); }
static void *in_destructor(void *kind) {
    CHECK(pthread_setspecific(key, (char *)kind + 1) == 0);
    return NULL;
}

static _Thread_local uintptr_t kind_of_handler;
static void handle(int unused) { (void)unused, kinds[kind_of_handler].call(); }
static void *in_handler(void *kind) {
    kind_of_handler = (uintptr_t)kind;
    raise(SIGUSR1);
    exercise((uintptr_t)kind + 1, 20);
    return NULL;
}

static void at_exit(void) {
    for (uintptr_t kind = 0; kind < KINDS; kind++) {
        given = malloc(100);
        kinds[kind].call();
    }
    dprintf(1, "done\n");
}

int main(int argc, char **argv) {
    CHECK(rcumalloc_present());
    if (argc == 3) {
        exercise(1, 1000);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        for (unsigned i = 0; i < KINDS; i++) {
            if (!kinds[i].needs_block) {
                printf("%s\n", kinds[i].name);
            }
        }
        return 0;
    }
    CHECK(pthread_key_create(&key, destroy) == 0);
    signal(SIGUSR1, handle);
    atexit(at_exit);
    for (uintptr_t kind = 0; kind < KINDS; kind++) {
        void *(*bodies[])(void *) = {directly, in_destructor, in_handler};
        for (int i = 0; i < 3; i++) {
            given = malloc(100);
            join(start(bodies[i], (void *)kind));
            given = malloc(100);
            join(start_untold(bodies[i], (void *)kind));
        }
    }
}
