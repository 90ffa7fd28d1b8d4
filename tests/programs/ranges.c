/* `ranges CASE [thread]`: blocks in mappings of their own. `life`: where they lie, what of them is known,
 * what they grow and shrink by, and what goes back; `readers`: what a section that began before still finds;
 * `changed`: what the program did to one dies with it; `fork`; `bad`: wrong calls, each refused; `torture`:
 * whose an address is, asked by two threads while two others come and go with such blocks. */
#include "victim.h"

#include <stdatomic.h>

enum { MIB = 1 << 20 };
static const size_t SIZE = 64ul * MIB;

static struct rcumalloc_block owner(const void *address) {
    struct rcumalloc_block found;
    rcumalloc_owner(address, &found, sizeof found);
    return found;
}

static char *take(size_t size) {
    char *block = malloc(size);
    CHECK(block != NULL);
    return block;
}

static void touch(char *block, size_t from, size_t to, char with) {
    for (size_t at = from; at < to; at += 4096) {
        block[at] = with;
    }
}

static bool holds(const char *block, size_t from, size_t to, char what) {
    for (size_t at = from; at < to; at += 4096) {
        if (block[at] != what) {
            return false;
        }
    }
    return true;
}

static void add_up(void) {
    struct rcumalloc_page_stats pages;
    CHECK(rcumalloc_page_stats(&pages, sizeof pages));
    uint64_t all = pages.slab + pages.large_live + pages.large_freed + pages.magazine + pages.page_cache +
                   pages.reserve + pages.meta + pages.free + pages.pool;
    /* But for pages that are in a handful of caches' hands at this moment. */
    CHECK(all <= pages.mapped && all + 64 >= pages.mapped);
}

static void settle(void) {
    rcumalloc_barrier();
    malloc_trim(0);
}

static void life(void) {
    free(take(SIZE));
    settle();
    long data = status_kib("VmData:");
    char *one = take(SIZE), *two = take(SIZE);
    CHECK((uintptr_t)one % (2 * MIB) == 0 && (uintptr_t)two % (2 * MIB) == 0);
    struct rcumalloc_block found = owner(one + SIZE / 2 + 7);
    CHECK(found.start == one && found.size == SIZE && found.state == 1 && found.large == 1);
    CHECK(found.mapping == one && found.mapping_bytes == SIZE && found.page_kind == RCUMALLOC_PAGE_LARGE);
    CHECK(malloc_usable_size(one) == SIZE);
    add_up();
    /* Each grows where it is. */
    touch(one, 0, SIZE, 1);
    touch(two, 0, SIZE, 2);
    int moved = 0;
    for (size_t size = SIZE; size < 3 * SIZE; size += MIB) {
        char *now = realloc(one, size + MIB);
        moved += now != one;
        touch(one = now, size, size + MIB, 1);
        now = realloc(two, size + MIB);
        moved += now != two;
        touch(two = now, size, size + MIB, 2);
    }
    CHECK(holds(one, 0, 3 * SIZE, 1) && holds(two, 0, 3 * SIZE, 2));
    PRINT("moved", moved);
    add_up();
    /* One shrinks where it is, and its memory goes. */
    long before = rss_kib();
    CHECK(realloc(one, SIZE) == one && malloc_usable_size(one) == SIZE);
    settle();
    PRINT("shrunk_kib", before - rss_kib());
    CHECK(holds(one, 0, SIZE, 1));
    add_up();
    /* What calloc gives is zero, and no more is written than has to be. */
    free(two);
    rcumalloc_barrier();
    before = rss_kib();
    char *zero = calloc(16, SIZE);
    CHECK(zero != NULL && holds(zero, 0, 16 * SIZE, 0));
    /* Reading maps the page of zeros, which does not count. */
    PRINT("calloc_kib", rss_kib() > before ? rss_kib() - before : 0);
    free(zero);
    free(one);
    settle();
    PRINT("data_kib", status_kib("VmData:") > data ? status_kib("VmData:") - data : 0);
    add_up();
    /* Any alignment. */
    for (size_t align = 4096; align <= (size_t)4 << 30; align *= 8) {
        char *aligned = aligned_alloc(align, SIZE);
        CHECK(aligned != NULL && (uintptr_t)aligned % align == 0);
        aligned[SIZE - 1] = 1;
        free(aligned);
    }
    /* Many at a time. */
    enum { MANY = 3000 };
    static char *block[MANY];
    for (int i = 0; i < MANY; i++) {
        block[i] = take(SIZE + (size_t)(i + 1) * 4096);
        block[i][SIZE] = (char)i;
    }
    for (int i = 0; i < MANY; i++) {
        CHECK(block[i][SIZE] == (char)i && owner(block[i] + SIZE).start == block[i]);
    }
    add_up();
    for (int i = 0; i < MANY; i++) {
        free(block[(i * 7) % MANY]);
    }
    settle();
    PRINT("after_many_kib", status_kib("VmData:") > data ? status_kib("VmData:") - data : 0);
}

static char *volatile seen;
static atomic_int stage;

static void reach(int next) {
    while (atomic_load(&stage) < next) {
        sched_yield();
    }
}

static void *read_on(void *unused) {
    rcumalloc_read_lock();
    char *block = seen;
    atomic_store(&stage, 1);
    reach(2);
    /* Freed, its tail given up before, much has come and gone since. */
    CHECK(holds(block, 0, SIZE, 7));
    struct rcumalloc_block found = owner(block + 5);
    CHECK(found.start == block && found.state == 2);
    rcumalloc_read_unlock();
    atomic_store(&stage, 3);
    return unused;
}

static void readers(void) {
    for (int round = 0; round < 5; round++) {
        atomic_store(&stage, 0);
        seen = take(SIZE);
        touch(seen, 0, SIZE, 7);
        pthread_t reader = start(read_on, NULL);
        reach(1);
        CHECK(realloc(seen, SIZE / 2) == seen);
        free(seen);
        for (int i = 0; i < 20; i++) {
            char *other = take(SIZE / 2 + (size_t)i * MIB);
            touch(other, 0, SIZE / 2, 8);
            free(other);
        }
        malloc_trim(0);
        atomic_store(&stage, 2);
        reach(3);
        join(reader);
        settle();
        CHECK(owner(seen).start == NULL);
    }
    add_up();
}

static void changed(void) {
    for (int round = 0; round < 4; round++) {
        char *block = take(SIZE);
        touch(block, 0, SIZE, 3);
        CHECK(mprotect(block + SIZE / 2, 8192, PROT_NONE) == 0);
        CHECK(madvise(block + SIZE / 4, 1 * MIB, MADV_DONTFORK) == 0);
        if (round % 2 == 0) {
            CHECK(realloc(block, SIZE / 2 + MIB) == block);
        }
        free(block);
        rcumalloc_barrier();
        char *next = take(SIZE);
        touch(next, 0, SIZE, 4);
        pid_t child = fork();
        if (child == 0) {
            _exit(holds(next, 0, SIZE, 4) ? 0 : 1);
        }
        reap(child);
        free(next);
    }
}

static void forks(void) {
    char *block = take(SIZE), *other = take(2 * SIZE);
    touch(block, 0, SIZE, 5);
    free(other);
    for (int round = 0; round < 10; round++) {
        pid_t child = fork();
        if (child == 0) {
            CHECK(holds(block, 0, SIZE, 5) && owner(block + SIZE / 2).start == block);
            char *grown = realloc(block, SIZE + MIB), *new = take(2 * SIZE);
            CHECK(grown == block && holds(grown, 0, SIZE, 5));
            touch(new, 0, 2 * SIZE, 6);
            free(grown);
            free(new);
            settle();
            _exit(0);
        }
        reap(child);
        CHECK(holds(block, 0, SIZE, 5));
    }
}

static void bad(void) {
    char *block = take(SIZE);
    free(block + 4096);
    free(block + SIZE / 2 + 16);
    CHECK(realloc(block + 4096, 100) == NULL);
    free(block);
    free(block);
    settle();
    free(block);
    CHECK(owner(block).start == NULL);
}

static atomic_bool stop;
static char *stays[16];

static void *ask(void *unused) {
    while (!atomic_load(&stop)) {
        for (int i = 0; i < 16; i++) {
            CHECK(owner(stays[i] + SIZE / 3).start == stays[i] && malloc_usable_size(stays[i]) >= SIZE);
        }
    }
    return unused;
}

static void *churn(void *seed) {
    uint64_t state = (uint64_t)(uintptr_t)seed;
    char *held[8] = {0};
    for (int round = 0; round < 4000; round++) {
        int at = (int)(next_random(&state) % 8);
        size_t size = SIZE / 2 + next_random(&state) % SIZE;
        if (held[at] != NULL && next_random(&state) % 3 == 0) {
            CHECK(*held[at] == (char)at);
            held[at] = realloc(held[at], size);
            CHECK(held[at] != NULL && *held[at] == (char)at);
        } else {
            CHECK(held[at] == NULL || *held[at] == (char)at);
            free(held[at]);
            held[at] = round % 5 == 0 ? aligned_alloc((size_t)1 << (12 + at), size) : take(size);
            *held[at] = (char)at;
        }
        held[at][size - 1] = 1;
    }
    for (int at = 0; at < 8; at++) {
        free(held[at]);
    }
    return NULL;
}

static void torture(void) {
    for (int i = 0; i < 16; i++) {
        stays[i] = take(SIZE);
    }
    pthread_t thread[4] = {
        start(ask, NULL), start(ask, NULL), start(churn, (void *)1), start(churn, (void *)2)
    };
    join(thread[2]);
    join(thread[3]);
    atomic_store(&stop, true);
    join(thread[0]);
    join(thread[1]);
    add_up();
}

static void *idle(void *unused) {
    pause();
    return unused;
}

int main(int argc, char **argv) {
    CHECK(argc >= 2 && rcumalloc_present());
    if (argc > 2) {
        start(idle, NULL);
    }
    const struct {
        const char *name;
        void (*run)(void);
    } cases[] = {{"life", life}, {"readers", readers}, {"changed", changed},
                 {"fork", forks}, {"bad", bad},        {"torture", torture}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (strcmp(argv[1], cases[i].name) == 0) {
            cases[i].run();
            dprintf(1, "done\n");
            _exit(0);
        }
    }
    CHECK(!"a case");
}
