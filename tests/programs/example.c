/* A table that readers look at without a lock and a writer replaces. Plain free() is enough: the
 * preloaded library keeps the old table as it was until every section that may see it has ended.
 *
 *     cc -o example example.c -I preload/include -pthread && scripts/run -- ./example
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "rcumalloc.h"

struct config {
    int version;
    int doubled; /* always twice the version: a torn or recycled table would show */
};

static _Atomic(struct config *) current;
static atomic_bool stop;

static void *reader(void *looks) {
    while (!stop) {
        rcumalloc_read_lock();
        struct config *seen = atomic_load(&current);
        if (seen->doubled != 2 * seen->version) {
            abort();
        }
        rcumalloc_read_unlock();
        ++*(long *)looks;
    }
    return NULL;
}

static void publish(int version) {
    struct config *fresh = malloc(sizeof *fresh);
    if (fresh == NULL) {
        abort();
    }
    *fresh = (struct config){version, 2 * version};
    free(atomic_exchange(&current, fresh)); /* deferred: no call_rcu, no rcu_head */
}

int main(void) {
    if (!rcumalloc_present()) {
        fputs("run me with LD_PRELOAD=librcumalloc.so\n", stderr);
        return 1;
    }
    long looks = 0;
    pthread_t thread;
    publish(0);
    pthread_create(&thread, NULL, reader, &looks);
    for (int version = 1; version <= 1000000; version++) {
        publish(version);
    }
    stop = true;
    pthread_join(thread, NULL);
    printf("version %d, every look was consistent\n", current->version);
    free(current);
    return looks < 0;
}
