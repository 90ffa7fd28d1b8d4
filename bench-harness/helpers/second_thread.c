/* Gives a program a second thread, which sleeps: so it is one with threads from its beginning. */
#include <pthread.h>
#include <unistd.h>

static void *asleep(void *nothing) {
    for (;;) pause();
    return nothing;
}

__attribute__((constructor)) static void begin(void) {
    pthread_t thread;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 32 << 10);
    /* Signals are the program's own thread's. */
    if (pthread_create(&thread, &small, asleep, NULL) == 0) pthread_detach(thread);
    pthread_attr_destroy(&small);
}
