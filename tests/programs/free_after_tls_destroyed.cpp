/* Threads that allocate and free in their destructors: of keys made before and after the library's
 * own, in every round, up to the last; of C++ thread_locals; and what libc frees after all of them
 * (the thread's dynamic thread-local storage, of a library with a large one). */
#include "victim.h"
#include <string>

static pthread_key_t early, late;
static void (*touch)(void);

struct Local {
    std::string text = std::string(500, 'x');
    ~Local() {
        free(malloc(2000));
        CHECK(text.size() == 500 && text[499] == 'x');
    }
};
static thread_local Local local;

/* Leaves a block for each round, so that libc calls it again until it has had enough. */
static void destroy_early(void *block) {
    CHECK(filled(block, 200, 1));
    free(block);
    block = malloc(200);
    fill(block, 200, 1);
    pthread_setspecific(early, block);
}
static thread_local int rounds;
static void destroy_late(void *block) {
    CHECK(filled(block, 300, 2));
    /* In the last round the next block would be the program's own leak. */
    free(block);
    for (int i = 0; i < 300; i++) {
        void *large = malloc(i * 40);
        CHECK(large != NULL);
        large = realloc(large, i * 40 + 1000);
        CHECK(large != NULL);
        free(large);
    }
    if (++rounds < 4 /* libc's rounds */) {
        block = malloc(300);
        fill(block, 300, 2);
        pthread_setspecific(late, block);
    }
}

static void *run(void *unused) {
    void *block = malloc(200);
    fill(block, 200, 1);
    pthread_setspecific(early, block);
    if (touch != NULL) { /* the second key is there */
        block = malloc(300);
        fill(block, 300, 2);
        pthread_setspecific(late, block);
    }
    CHECK(local.text.size() == 500);
    if (touch != NULL) {
        touch();
    }
    return unused;
}

static void some_threads(int count) {
    for (int i = 0; i < count; i++) {
        join(i % 2 ? start(run, NULL) : start_untold(run, NULL));
    }
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    CHECK(pthread_key_create(&early, destroy_early) == 0);
    join(start(run, NULL)); /* makes the library's key */
    CHECK(pthread_key_create(&late, destroy_late) == 0);
    void *library = dlopen(argv[1], RTLD_NOW);
    CHECK(library != NULL);
    touch = (void (*)(void))dlsym(library, "touch_tls");
    CHECK(touch != NULL);
    some_threads(300);
    struct rcumalloc_stats before = stats();
    some_threads(1000);
    struct rcumalloc_stats after = stats();
    PRINT("threads", after.threads);
    PRINT("meta_growth", after.meta_bytes - before.meta_bytes);
    PRINT("hwm_kib", hwm_kib());
    /* destroy_early leaks 200 bytes a thread, in the last round. */
    PRINT("live_growth", after.live_bytes > before.live_bytes ? after.live_bytes - before.live_bytes : 0);
    PRINT("bad_calls", after.bad_calls);
}
