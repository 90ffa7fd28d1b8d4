// flags: -shared -fPIC
/* Preloaded: starts a thread that has used the heap and then sleeps, before main. Of whatever program, whose
 * children have none. */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static sem_t has_begun;

static void *idle(void *unused) {
    free(malloc(100));
    sem_post(&has_begun);
    for (;;) {
        pause();
    }
    return unused;
}

__attribute__((constructor)) static void begin(void) {
    unsetenv("LD_PRELOAD");
    pthread_attr_t small;
    pthread_t thread;
    /* Handlers are the program's affair. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    sem_init(&has_begun, 0, 0);
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    if (pthread_create(&thread, &small, idle, NULL) != 0) {
        abort();
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    sem_wait(&has_begun);
}
