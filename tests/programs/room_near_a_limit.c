/* `room_near_a_limit [idle]`: beside a thread that sleeps or alone, malloc has come to the limit on
 * address space. What the program frees then is room for its own mappings, too; and calls that fail again and
 * again take no memory from blocks that are free in slabs. */
#include "victim.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { MIB = 1 << 20, LIMIT_MIB = 160, MOST = 20000, FAILING = 50, SMALL = 1024, SMALLS = 40 * MIB / SMALL };
static void *block[MOST];
static void *small[SMALLS];

static void *idle(void *nothing) {
    pause();
    return nothing;
}

static long faults(void) {
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return usage.ru_minflt;
}

static int fill_all(void) {
    int count = 0;
    while (count < MOST && (block[count] = malloc(15000)) != NULL) {
        memset(block[count++], 1, 15000);
    }
    CHECK(count < MOST);
    return count;
}

/* One small block in 16 stays, so three pages in four have none. */
static void give_small(void) {
    for (int at = 0; at < SMALLS; at++) {
        if (at % 16 != 0) {
            free(small[at]);
            small[at] = NULL;
        }
    }
}

static void take_small(void) {
    for (int at = 0; at < SMALLS; at++) {
        if (small[at] == NULL) {
            CHECK((small[at] = malloc(SMALL)) != NULL);
            memset(small[at], 1, SMALL);
        }
    }
}

int main(int argc, char **argv) {
    (void)argv;
    pthread_t thread;
    CHECK(argc < 2 || pthread_create(&thread, NULL, idle, NULL) == 0);
    take_small();
    give_small();
    rlim_t most = (rlim_t)status_kib("VmSize:") * 1024 + LIMIT_MIB * (rlim_t)MIB;
    struct rlimit limit = {most, most};
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    int count = fill_all();
    take_small();
    give_small();
    for (int call = 0; call < FAILING; call++) {
        CHECK(malloc(LIMIT_MIB * (size_t)MIB) == NULL);
    }
    long before = faults();
    take_small();
    PRINT("faults", faults() - before);
    PRINT("filled_mib", (uint64_t)count * 15000 / MIB);
    while (count > 0) {
        free(block[--count]);
    }
    void *own = mmap(NULL, (LIMIT_MIB - 40) * (size_t)MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    PRINT("mapped", own != MAP_FAILED);
    return 0;
}
