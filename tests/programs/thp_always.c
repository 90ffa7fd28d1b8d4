/* `thp_always always|never|advise`: 100 threads each allocate a little and fall asleep. always: under the
 * system's setting of that name; never: in a process that declined huge pages; advise: the heap's address
 * space is advised to have them, whatever the setting. */
#include "victim.h"
#include <sys/prctl.h>

enum { THREADS = 100, HUGE = 2 << 20 };
static pthread_barrier_t ready;

static void *idle(void *unused) {
    for (size_t size = 1; size < 3000; size += 97) {
        memset(malloc(size), 1, size);
        free(malloc(size));
    }
    pthread_barrier_wait(&ready);
    pause();
    return unused;
}

static void advise(void) {
    /* Every anonymous mapping of some size: the heap's, which has some megabytes of free pages by now. */
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    char line[512];
    int advised = 0;
    while (fgets(line, sizeof line, maps) != NULL) {
        uintptr_t from, to;
        char flags[5], name[256] = "";
        CHECK(sscanf(line, "%lx-%lx %4s %*s %*s %*s %255s", &from, &to, flags, name) >= 3);
        if (name[0] == 0 && to - from >= 256 << 10) {
            advised += madvise((void *)from, to - from, MADV_HUGEPAGE) == 0;
        }
    }
    fclose(maps);
    PRINT("advised", advised);
}

/* Whether a mapping of ours that is touched once is given a huge page. */
static bool huge_pages_are_given(void) {
    char *at = mmap(NULL, 4 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    long before = rss_kib();
    ((char *)(((uintptr_t)at + HUGE - 1) & ~(uintptr_t)(HUGE - 1)))[0] = 1;
    bool given = rss_kib() - before > HUGE / 2048;
    CHECK(munmap(at, 4 * HUGE) == 0);
    return given;
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    if (strcmp(argv[1], "never") == 0) {
        CHECK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
    }
    free(malloc(6 << 20));
    if (strcmp(argv[1], "advise") == 0) {
        advise();
    }
    PRINT("huge", huge_pages_are_given());
    pthread_barrier_init(&ready, NULL, THREADS + 1);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 * 1024);
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, &small, idle, NULL) == 0);
    }
    pthread_barrier_wait(&ready);
    PRINT("rss_kib", rss_kib());
    _exit(0);
}
