/* `lagging_reader sleeping|computing implicit|explicit|inside`: one thread sleeps or computes and
 * never calls the allocator, while two churn 1 GiB. implicit: it never opened a section; explicit:
 * it did, and is in none now. The memory must not grow and the backlog must stay near its budget.
 * inside: it stays in its section, and what is churned, 128 MiB, waits. */
#include "victim.h"

enum { CHURNERS = 2, LIVE = 4000 };
static pthread_barrier_t ready;
static volatile uint64_t computed;
static const char *how, *what;
static size_t share = (size_t)512 << 20;

static void *lag(void *unused) {
    free(malloc(100));
    if (strcmp(what, "implicit") != 0) {
        rcumalloc_read_lock();
    }
    if (strcmp(what, "explicit") == 0) {
        rcumalloc_read_unlock();
    }
    pthread_barrier_wait(&ready);
    if (strcmp(how, "sleeping") == 0) {
        pause();
    }
    for (;;) {
        computed++;
    }
    return unused;
}

/* A share of the whole through a few MiB of live blocks. */
static void *churn(void *seed_pointer) {
    uint64_t seed = (uintptr_t)seed_pointer;
    static _Thread_local void *live[LIVE];
    for (size_t done = 0; done < share;) {
        unsigned at = next_random(&seed) % LIVE;
        size_t size = next_random(&seed) % 1000 + 1;
        free(live[at]);
        live[at] = malloc(size);
        CHECK(live[at] != NULL);
        memset(live[at], 1, size);
        done += size;
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 3 && rcumalloc_present());
    how = argv[1], what = argv[2];
    if (strcmp(what, "inside") == 0) {
        share = (size_t)64 << 20;
    }
    pthread_barrier_init(&ready, NULL, 2);
    start(lag, NULL);
    pthread_barrier_wait(&ready);
    pthread_t churner[CHURNERS];
    for (uintptr_t i = 0; i < CHURNERS; i++) {
        churner[i] = start(churn, (void *)(i + 1));
    }
    for (int i = 0; i < CHURNERS; i++) {
        join(churner[i]);
    }
    struct rcumalloc_stats s = stats();
    PRINT("hwm_kib", hwm_kib());
    PRINT("deferred_peak", s.deferred_peak_bytes);
    PRINT("budget", s.budget_bytes);
    PRINT("periods", s.periods_completed);
    PRINT("membarriers", s.membarriers);
    PRINT("parked", s.threads_parked);
    _exit(0);
}
