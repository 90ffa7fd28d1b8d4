/* Three kinds of threads that wait for each other in a circle, if fork holds the heap while it waits for
 * the list of open streams: fflush(NULL) holds the list and waits for a stream; getline holds the stream
 * and needs memory. */
#include "victim.h"

enum { READERS = 2, MS = 1500, LINE = 1 << 20 };
static long lines, flushes;
static _Atomic bool done;

static void *reader(void *unused) {
    char *text = malloc(LINE);
    memset(text, 'x', LINE);
    text[LINE - 1] = '\n';
    for (;;) {
        FILE *stream = fmemopen(text, LINE, "r");
        CHECK(stream != NULL);
        char *line = NULL;
        size_t size = 0;
        while (getline(&line, &size, stream) > 0) {
            __atomic_fetch_add(&lines, 1, __ATOMIC_RELAXED);
        }
        free(line);
        fclose(stream);
    }
    return unused;
}

static void *flusher(void *unused) {
    while (!done) {
        fflush(NULL);
        __atomic_fetch_add(&flushes, 1, __ATOMIC_RELAXED);
    }
    return unused;
}

int main(void) {
    for (int i = 0; i < READERS; i++) {
        start(reader, NULL);
    }
    pthread_t flushing = start(flusher, NULL);
    unsigned forks = 0;
    for (uint64_t end = now_ms() + MS; forks < 50 || now_ms() < end; forks++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(60);
            exercise(forks + 1, 300);
            FILE *stream = fmemopen(&forks, sizeof forks, "r");
            CHECK(stream != NULL && fclose(stream) == 0 && fflush(NULL) == 0);
            CHECK(stats().threads == 1);
            _exit(0);
        }
        reap(child);
    }
    /* fflush(NULL) beside dprintf writes glibc's own half of a line twice. */
    done = true;
    join(flushing);
    PRINT("lines", lines);
    PRINT("bad_calls", stats().bad_calls);
    _exit(lines == 0 || flushes == 0);
}
