// flags: -shared -fPIC -ldl
/* Preloaded beside the library: a thread that writes the process's figures to a file, five lines a
 * second, for as long as the process lives: milliseconds, resident KiB, deferred bytes, budget, live bytes,
 * grace periods completed, age in milliseconds of the oldest grace period asked for and not yet ended, bad
 * calls. The file is PROBE_FIGURES/NAME.PID. The child of a fork has no such thread. */
#include "victim.h"

enum { EVERY_MS = 200, ASKED = 64 };

static int figures = -1;

/* Cookies asked for, one a turn, and when: a ring of those that have not elapsed. */
static struct { rcumalloc_cookie cookie; uint64_t at; } asked[ASKED];
static unsigned oldest, next;

static uint64_t age_of_oldest(void) {
    uint64_t now = now_ms();
    while (oldest != next && rcumalloc_poll(asked[oldest % ASKED].cookie)) {
        oldest++;
    }
    uint64_t age = oldest == next ? 0 : now - asked[oldest % ASKED].at;
    if (next - oldest < ASKED) {
        asked[next % ASKED].cookie = rcumalloc_start_poll();
        asked[next % ASKED].at = now;
        next++;
    }
    return age;
}

static void *watch(void *unused) {
    /* This thread must not hold periods up itself. */
    for (uint64_t start = now_ms();; sleep_ms(EVERY_MS)) {
        rcumalloc_thread_online();
        struct rcumalloc_stats s = stats();
        uint64_t age = age_of_oldest();
        dprintf(figures, "%llu %ld %llu %llu %llu %llu %llu %llu\n", (unsigned long long)(now_ms() - start),
                rss_kib(), (unsigned long long)s.deferred_bytes, (unsigned long long)s.budget_bytes,
                (unsigned long long)s.live_bytes, (unsigned long long)s.periods_completed,
                (unsigned long long)age, (unsigned long long)s.bad_calls);
        rcumalloc_thread_offline();
    }
    return unused;
}

__attribute__((constructor)) static void begin(void) {
    const char *directory = getenv("PROBE_FIGURES");
    char path[512];
    if (directory == NULL || !rcumalloc_present()) {
        return;
    }
    snprintf(path, sizeof path, "%s/%s.%d", directory, program_invocation_short_name, (int)getpid());
    figures = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK(figures >= 0);
    /* Far from the numbers a server uses for its own. */
    int high = fcntl(figures, F_DUPFD_CLOEXEC, 512);
    if (high >= 0) {
        close(figures);
        figures = high;
    }
    pthread_detach(start(watch, NULL));
}
