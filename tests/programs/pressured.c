/* `pressured WHAT [...]`: a program with memory to give back, and who asks for it.
 *
 *   wait REASON SECONDS     threads; says "ready", then waits for a scan of that reason
 *   solo REASON SECONDS     the same with one thread that goes on allocating
 *   signal NUMBER           the signal, in a process with threads that sleep, and in one without
 *   handled NUMBER          a handler of its own is neither stolen nor in the way
 *   limit [THREADS]         holds up to 64 MiB and frees it, again and again; with another thread asleep
 *   held                    holds more than its limit
 *   level N                 rcumalloc_pressure(N)
 */
#include "victim.h"
#include <stdatomic.h>

enum { BLOCKS = 128, BYTES = 512 << 10 };

static atomic_int asleep;

static uint64_t scans(int reason) { return stats().scans[reason]; }

/* Until so many threads have done what they do before they sleep. */
static void wait_for_sleepers(int count) {
    while (atomic_load(&asleep) < count) {
        sleep_ms(5);
    }
}

/* Frees 64 MiB that nobody uses again; what ages is switched off by the tests' environment. */
static void have_something(void) {
    void *block[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        block[i] = malloc(BYTES);
        CHECK(block[i] != NULL);
        memset(block[i], 1, BYTES);
    }
    for (int i = 0; i < BLOCKS; i++) {
        free(block[i]);
    }
}

static void *idle(void *unused) {
    free(malloc(100));
    atomic_fetch_add(&asleep, 1);
    for (;;) {
        sleep_ms(1000);
    }
    return unused;
}

static void *have_and_sleep(void *unused) {
    have_something();
    return idle(unused);
}

static void wait_for(int reason, int seconds, bool works) {
    uint64_t before = scans(reason);
    PRINT("rss_before_kib", rss_kib());
    dprintf(1, "ready\n");
    uint64_t until = now_ms() + (uint64_t)seconds * 1000;
    while (scans(reason) == before && now_ms() < until) {
        if (works) {
            exercise(now_ms(), 2000);
        }
        sleep_ms(20);
    }
    PRINT("scans", scans(reason) - before);
    sleep_ms(200);
    PRINT("rss_after_kib", rss_kib());
}

static atomic_int handled;
static void handle(int signal) {
    (void)signal;
    atomic_fetch_add(&handled, 1);
}

int main(int argc, char **argv) {
    CHECK(argc >= 2 && rcumalloc_present());
    const char *what = argv[1];
    int number = argc > 2 ? atoi(argv[2]) : 0;
    if (strcmp(what, "wait") == 0) {
        start(have_and_sleep, NULL);
        have_something();
        wait_for_sleepers(1);
        wait_for(number, atoi(argv[3]), false);
    } else if (strcmp(what, "solo") == 0) {
        have_something();
        wait_for(number, atoi(argv[3]), true);
    } else if (strcmp(what, "signal") == 0) {
        have_something();
        CHECK(raise(number) == 0); /* solo: the next slow path */
        PRINT("scans_in_handler", scans(RCUMALLOC_REASON_SIGNAL));
        free(malloc(1 << 20));
        PRINT("scans_solo", scans(RCUMALLOC_REASON_SIGNAL));
        start(idle, NULL);
        have_something();
        wait_for_sleepers(1);
        errno = 77;
        CHECK(raise(number) == 0); /* all threads sleep: the watcher */
        CHECK(errno == 77);
        for (int i = 0; i < 2000 && scans(RCUMALLOC_REASON_SIGNAL) < 2; i++) {
            sleep_ms(5);
        }
        PRINT("scans_asleep", scans(RCUMALLOC_REASON_SIGNAL));
    } else if (strcmp(what, "handled") == 0) {
        struct sigaction action = {.sa_handler = handle}, old;
        CHECK(sigaction(number, &action, &old) == 0);
        PRINT("was_default", old.sa_handler == SIG_DFL);
        have_something();
        CHECK(raise(number) == 0);
        free(malloc(1 << 20));
        PRINT("handled", handled);
        PRINT("scans", scans(RCUMALLOC_REASON_SIGNAL));
        CHECK(sigaction(number, NULL, &old) == 0);
        PRINT("still_ours", old.sa_handler == handle);
    } else if (strcmp(what, "limit") == 0) {
        long most = 0;
        if (number != 0) {
            start(idle, NULL);
            have_something();
            sleep_ms(500); /* the watcher has looked around */
        }
        for (int i = 0; i < 20; i++) {
            have_something();
            long now = rss_kib();
            most = now > most ? now : most;
        }
        PRINT("rss_between_kib", most);
        PRINT("scans", scans(RCUMALLOC_REASON_LIMIT));
    } else if (strcmp(what, "held") == 0) {
        /* All of it is the program's: a limit must not refuse, nor scan for ever. */
        for (int i = 0; i < 256; i++) {
            char *block = malloc(BYTES);
            CHECK(block != NULL);
            memset(block, 1, BYTES);
        }
        PRINT("scans", scans(RCUMALLOC_REASON_LIMIT));
    } else if (strcmp(what, "level") == 0) {
        have_something();
        PRINT("rss_before_kib", rss_kib());
        rcumalloc_pressure(number);
        PRINT("rss_after_kib", rss_kib());
        PRINT("scans", scans(RCUMALLOC_REASON_PRESSURE));
    } else {
        return 2;
    }
    return 0;
}
