/* `scan_stress SECONDS [refused]`: four threads make, check and free patterned blocks, each other's too, a
 * fifth reads under sections what a sixth replaces, and one more does nothing but shrink, in every way
 * there is, and forks now and then; its child shrinks and exercises, too. `refused`: the kernel refuses
 * every madvise. */
#include "victim.h"
#include "filter.h"
#include <stdatomic.h>

enum { WORKERS = 4, SHARED = 256, READ_SIZE = 3000 };
static volatile bool stop;
static void *_Atomic shared[SHARED];
static unsigned char *_Atomic published;

/* Blocks that go from hand to hand: the first word says how large, the rest is patterned. */
static void *made(uint64_t *seed) {
    unsigned shift = (unsigned)(next_random(seed) % (next_random(seed) % 32 == 0 ? 19 : 12));
    size_t size = sizeof(size_t) + next_random(seed) % ((size_t)1 << shift);
    size_t *block = malloc(size);
    CHECK(block != NULL);
    *block = size;
    fill(block + 1, size - sizeof size, 0);
    return block;
}
static void check_and_free(size_t *block) {
    if (block != NULL) {
        CHECK(*block >= sizeof(size_t) && *block < (1 << 20) &&
            filled(block + 1, *block - sizeof(size_t), 0));
        free(block);
    }
}

static void *work(void *argument) {
    uint64_t seed = (uintptr_t)argument * 2654435761u + 88172645463325252u;
    while (!stop) {
        for (int i = 0; i < 1000; i++) {
            check_and_free(atomic_exchange(&shared[next_random(&seed) % SHARED], made(&seed)));
        }
        if (next_random(&seed) % 64 == 0) {
            sleep_ms(5); /* idle: its shelf and pages may go */
        }
    }
    return NULL;
}

static void *reader(void *unused) {
    while (!stop) {
        rcumalloc_read_lock();
        unsigned char *seen = published, version = *seen;
        for (int round = 0; round < 10; round++) {
            CHECK(*seen == version && memcmp(seen, seen + 1, READ_SIZE - 1) == 0);
            usleep(50); /* asleep in a section: what it sees must stay all the same */
        }
        rcumalloc_read_unlock();
    }
    return unused;
}

static unsigned char *version(unsigned number) {
    unsigned char *block = malloc(READ_SIZE);
    CHECK(block != NULL);
    memset(block, (int)(number & 0xff), READ_SIZE);
    return block;
}

static void *replacer(void *unused) {
    for (unsigned number = 1; !stop; number++) {
        free(atomic_exchange(&published, version(number)));
    }
    return unused;
}

static void shrink(uint64_t *seed) {
    switch (next_random(seed) % 6) {
    case 0: malloc_trim(0); break;
    case 1: rcumalloc_pressure(1); break;
    case 2: rcumalloc_pressure(2); break;
    case 3: rcumalloc_shrink_scan(SIZE_MAX); break;
    default: rcumalloc_shrink_scan(next_random(seed) % (8 << 20));
    }
}

int main(int argc, char **argv) {
    CHECK(argc >= 2 && rcumalloc_present());
    if (argc > 2) {
        answer_call(SYS_madvise, EINVAL);
    }
    published = version(0);
    pthread_t thread[WORKERS + 2];
    for (uintptr_t i = 0; i < WORKERS; i++) {
        thread[i] = start(work, (void *)(i + 1));
    }
    thread[WORKERS] = start(reader, NULL);
    thread[WORKERS + 1] = start(replacer, NULL);
    uint64_t seed = 42, until = now_ms() + (uint64_t)atoi(argv[1]) * 1000;
    for (unsigned round = 1; now_ms() < until; round++) {
        shrink(&seed);
        if (round % 200 == 0) {
            pid_t child = fork();
            if (child == 0) {
                alarm(60);
                exercise(round, 2000);
                shrink(&seed);
                exercise(round, 2000);
                malloc_trim(0);
                _exit(0);
            }
            reap(child);
        }
    }
    stop = true;
    for (int i = 0; i < WORKERS + 2; i++) {
        join(thread[i]);
    }
    for (int i = 0; i < SHARED; i++) {
        check_and_free(shared[i]);
    }
    free(published);
    malloc_trim(0);
    struct rcumalloc_stats s = stats();
    PRINT("scans", s.scans[RCUMALLOC_REASON_API] + s.scans[RCUMALLOC_REASON_TRIM] +
                       s.scans[RCUMALLOC_REASON_PRESSURE]);
    PRINT("given", s.scanned_bytes[RCUMALLOC_REASON_API]);
    PRINT("suppressed", s.refills_suppressed);
    PRINT("bad_calls", s.bad_calls);
    PRINT("live", s.live_bytes);
    PRINT("rss_kib", rss_kib());
}
