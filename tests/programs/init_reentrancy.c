/* Runs with interposer.so before the library: the program's first malloc must reach the system
 * without passing through any function that a library may interpose, and if it did, the call that
 * comes back to malloc from there must work. */
#include "victim.h"

/* interposer.so's. */
__attribute__((weak)) extern int interposer_watching;
__attribute__((weak)) extern int interposer_calls;
__attribute__((weak)) extern const char *interposer_last;

static const char *last_in_first_malloc;
static int calls_in_first_malloc;

static void first_malloc(int argc, char **argv, char **envp) {
    (void)argc, (void)argv, (void)envp;
    interposer_watching = 1;
    void *block = malloc(100);
    interposer_watching = 0;
    calls_in_first_malloc = interposer_calls;
    last_in_first_malloc = interposer_last;
    CHECK(block != NULL);
    free(block);
}
__attribute__((section(".preinit_array"), used)) static void (*preinit)(int, char **, char **) =
    first_malloc;

static void *in_thread(void *seed) {
    exercise((uintptr_t)seed, 2000);
    CHECK(getenv("PATH") != NULL);
    return NULL;
}

int main(void) {
    CHECK(&interposer_calls != NULL);
    CHECK(rcumalloc_present());
    if (calls_in_first_malloc != 0) {
        dprintf(2, "the first malloc called %s\n", last_in_first_malloc);
    }
    PRINT("interposed", calls_in_first_malloc);
    pthread_t thread = start(in_thread, (void *)7);
    in_thread((void *)8);
    join(thread);
    pid_t child = fork();
    if (child == 0) {
        in_thread((void *)9);
        exit(0);
    }
    reap(child);
}
