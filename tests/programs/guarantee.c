/* `guarantee [--now] [--sections N] [--deny-later ERRNO]`: the reader guarantee (G1).
 *
 * Readers open sections over a table of patterned blocks of 16 bytes to 2 MiB, pick some, and check
 * at the end of the section that what they picked is still what it was. Writers replace blocks and
 * give the old ones away by free, rcumalloc_free and realloc, and refill memory of the same sizes as
 * fast as they can, so that a block handed out too early is overwritten.
 *
 * --now: writers call rcumalloc_free_now, which ignores the grace period: the readers must notice.
 * --deny-later: halfway a filter begins to refuse membarrier with this errno.
 */
#include "victim.h"
#include "filter.h"

enum { TABLE = 512, READERS = 3, WRITERS = 2, PICKS = 4, MOST = 2 << 20 };

/* Every block begins with a header that makes its content predictable. */
struct block {
    uint64_t size;
    uint64_t stamp;
};

static struct block *table[TABLE];
static bool now;
static long sections_wanted = 1000000;
static long sections, violations;
static int stop;

static uint64_t stamp_of(const struct block *b, uint64_t size) {
    return ((uint64_t)(uintptr_t)b ^ size) * 0x9e3779b97f4a7c15u | 1;
}

/* The stamp at every 64th byte (the whole of small blocks) and at the end. */
static void write_block(struct block *b, uint64_t size) {
    b->size = size;
    b->stamp = stamp_of(b, size);
    uint64_t *words = (uint64_t *)b;
    size_t step = size > 4096 ? 512 : 1;
    for (size_t i = 2; i < size / 8; i += step) {
        words[i] = b->stamp;
    }
}

static bool intact(const struct block *b, uint64_t size, uint64_t stamp, size_t step) {
    const volatile uint64_t *words = (const volatile uint64_t *)b;
    if (words[0] != size || words[1] != stamp) {
        return false;
    }
    for (size_t i = 2; i < size / 8; i += step) {
        if (words[i] != stamp) {
            return false;
        }
    }
    return true;
}

static size_t size_of_entry(unsigned at, uint64_t random) {
    if (at == 0) {
        return MOST;
    }
    if (at < 4) {
        return 40000 + random % 200000 / 8 * 8;
    }
    return at < 32 ? 1024 + random % 30000 / 8 * 8 : 16 + random % 500 / 8 * 8;
}

static struct block *make(unsigned at, uint64_t *seed) {
    size_t size = size_of_entry(at, next_random(seed));
    struct block *b = malloc(size);
    CHECK(b != NULL);
    write_block(b, size);
    return b;
}

/* Sections as each reader opens them: by call, by its own handle, or one in the other. */
enum { BY_CALL = 1, BY_HANDLE = 2 };

static void lock(int how, rcumalloc_reader *self) {
    if (how & BY_CALL) {
        rcumalloc_read_lock();
    }
    if (how & BY_HANDLE) {
        rcumalloc_reader_lock(self);
    }
}

static void unlock(int how, rcumalloc_reader *self) {
    if (how & BY_HANDLE) {
        rcumalloc_reader_unlock(self);
    }
    if (how & BY_CALL) {
        rcumalloc_read_unlock();
    }
}

static void *read_sections(void *seed_pointer) {
    uint64_t seed = (uintptr_t)seed_pointer * 7919;
    int how = 1 + (int)((uintptr_t)seed_pointer % READERS);
    rcumalloc_reader *self = how & BY_HANDLE ? rcumalloc_reader_self() : NULL;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        long bad = 0;
        for (int section = 0; section < 256; section++) {
            const struct block *picked[PICKS];
            uint64_t size[PICKS], stamp[PICKS];
            lock(how, self);
            uint64_t random = next_random(&seed);
            for (int i = 0; i < PICKS; i++) {
                unsigned at = (unsigned)(random >> (i * 12)) % (i == 0 && random % 64 == 0 ? 4 : TABLE);
                picked[i] = __atomic_load_n(&table[at], __ATOMIC_ACQUIRE);
                /* It was published after it was written and its header never changes. */
                size[i] = picked[i]->size;
                stamp[i] = stamp_of(picked[i], size[i]);
            }
            /* Some sections are long enough for everything to be replaced, and are interrupted. */
            if (random >> 52 == 0) {
                sleep_ms(2);
            } else if (random % 16 == 0) {
                for (volatile int spin = 0; spin < 2000; spin++) {
                }
            }
            for (int i = 0; i < PICKS; i++) {
                if (size[i] > MOST || !intact(picked[i], size[i], stamp[i], size[i] > 4096 ? 512 : 1)) {
                    bad++;
                }
            }
            unlock(how, self);
        }
        if (bad != 0) {
            __atomic_fetch_add(&violations, bad, __ATOMIC_RELAXED);
        }
        if (__atomic_add_fetch(&sections, 256, __ATOMIC_RELAXED) >= sections_wanted) {
            __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
        }
        free(malloc(64));
    }
    return NULL;
}

static void *write_and_free(void *seed_pointer) {
    uint64_t seed = (uintptr_t)seed_pointer * 104729;
    enum { REFILL = 64 };
    void *refill[REFILL] = {0};
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        uint64_t random = next_random(&seed);
        /* Small ones mostly: a 2 MiB block now and then. */
        unsigned at = random % 8192 == 0 ? 0 : random % 512 == 1 ? random % 4
            : (unsigned)(random >> 8) % TABLE;
        if (at < 4 && random % 512 > 1) {
            at += 4;
        }
        struct block *fresh = make(at, &seed);
        struct block *old = __atomic_exchange_n(&table[at], fresh, __ATOMIC_ACQ_REL);
        size_t size = old->size;
        if (now) {
            rcumalloc_free_now(old);
        } else if (random % 8 == 0 && size < MOST) {
            /* A realloc that moves, or stays where it is if a reader may look: its header's size
             * still describes what was there. */
            void *grown = realloc(old, size * 2 + 40000);
            CHECK(grown != NULL);
            memset((char *)grown + size, 0x55, size + 40000);
            if (grown != old) {
                memset(grown, 0x55, size);
            }
            free(grown);
        } else if (random % 8 == 1) {
            rcumalloc_free(old);
        } else {
            free(old);
        }
        unsigned slot = (unsigned)(random >> 20) % REFILL;
        free(refill[slot]);
        refill[slot] = malloc(size);
        CHECK(refill[slot] != NULL);
        memset(refill[slot], 0xaa, size > 65536 ? 65536 : size);
    }
    for (int i = 0; i < REFILL; i++) {
        free(refill[i]);
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(rcumalloc_present());
    int deny = -1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--now") == 0) {
            now = true;
        } else if (strcmp(argv[i], "--sections") == 0) {
            sections_wanted = atol(argv[++i]);
        } else {
            deny = atoi(argv[++i]);
        }
    }
    uint64_t seed = 99;
    for (unsigned at = 0; at < TABLE; at++) {
        table[at] = make(at, &seed);
    }
    pthread_t thread[READERS + WRITERS];
    for (uintptr_t i = 0; i < READERS + WRITERS; i++) {
        thread[i] = start(i < READERS ? read_sections : write_and_free, (void *)(i + 1));
    }
    if (deny >= 0) {
        while (__atomic_load_n(&sections, __ATOMIC_RELAXED) < sections_wanted / 3) {
            sleep_ms(1);
        }
        answer_call(SYS_membarrier, (unsigned)deny);
    }
    for (int i = 0; i < READERS + WRITERS; i++) {
        join(thread[i]);
    }
    struct rcumalloc_stats s = stats();
    PRINT("sections", sections);
    PRINT("violations", violations);
    PRINT("periods", s.periods_completed);
    PRINT("expedited", s.periods_expedited);
    PRINT("membarriers", s.membarriers);
    PRINT("hwm_kib", hwm_kib());
    return violations != 0;
}
