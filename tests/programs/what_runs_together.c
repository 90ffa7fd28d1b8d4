/* `what_runs_together THREADS`: allocates and frees for two seconds, in so many threads beside this one, and
 * prints how many KiB of the library's code are in memory then. */
#include "victim.h"

static uint64_t ends_ms;

static void *work(void *nothing) {
    static __thread void *held[1000];
    uint64_t random = (uintptr_t)&nothing;
    while (now_ms() < ends_ms) {
        for (int step = 0; step < 1000; step++) {
            random = random * 6364136223846793005u + 1;
            void **at = &held[(random >> 33) % 1000];
            free(*at);
            *at = malloc((random >> 20) % 2000 + 1);
            CHECK(*at != NULL);
        }
    }
    for (int at = 0; at < 1000; at++) {
        free(held[at]);
    }
    return nothing;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    int count = atoi(argv[1]);
    pthread_t threads[16];
    CHECK(count <= 16);
    ends_ms = now_ms() + 2000;
    for (int at = 0; at < count; at++) {
        threads[at] = start(work, NULL);
    }
    work(NULL);
    for (int at = 0; at < count; at++) {
        join(threads[at]);
    }
    FILE *maps = fopen("/proc/self/smaps", "r");
    CHECK(maps != NULL);
    char line[512];
    bool is_code = false;
    unsigned long kib, code = 0;
    while (fgets(line, sizeof line, maps) != NULL) {
        if (strstr(line, "-p ") != NULL || strstr(line, "-s ") != NULL || strstr(line, "xp ") != NULL) {
            is_code = strstr(line, "r-xp") != NULL && strstr(line, "librcumalloc") != NULL;
        }
        if (is_code && sscanf(line, "Rss: %lu", &kib) == 1) {
            code += kib;
        }
    }
    fclose(maps);
    PRINT("code_kib", (uint64_t)code);
    return 0;
}
