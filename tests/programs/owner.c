/* What rcumalloc_owner says: `random`, of random addresses of blocks of all sizes, while other threads come
 * and go with theirs; `freed`, of blocks on their way back; `far`, what a block of gigabytes costs; `crash`,
 * in a handler of SIGSEGV that interrupts malloc's thread at a bad address. */
#include "victim.h"

#include <stdatomic.h>
#include <stddef.h>

static struct rcumalloc_block owner(const void *address) {
    struct rcumalloc_block found;
    memset(&found, 0x5a, sizeof found);
    bool is_block = rcumalloc_owner(address, &found, sizeof found);
    CHECK(is_block == (found.start != NULL));
    return found;
}

static atomic_bool stop;

static void *churn(void *seed) {
    enum { HELD = 40 };
    uint64_t state = (uint64_t)(uintptr_t)seed;
    void *held[HELD] = {0};
    while (!atomic_load(&stop)) {
        int at = (int)(next_random(&state) % HELD);
        free(held[at]);
        held[at] = malloc((size_t)1 << (4 + next_random(&state) % 18));
    }
    for (int i = 0; i < HELD; i++) {
        free(held[i]);
    }
    return NULL;
}

static void random_pointers(void) {
    enum { BLOCKS = 600, ROUNDS = 60000 };
    static char *block[BLOCKS];
    static size_t size[BLOCKS];
    uint64_t state = 20261130;
    pthread_t others[2] = {start(churn, (void *)1), start(churn, (void *)2)};
    for (int round = 0; round < ROUNDS; round++) {
        int at = (int)(next_random(&state) % BLOCKS);
        if (block[at] == NULL || next_random(&state) % 16 == 0) {
            size_t wanted = 1 + next_random(&state) % ((size_t)1 << (1 + next_random(&state) % 22));
            /* Made, grown where it is, or shrunk: its pages are described each time. */
            block[at] = realloc(block[at], wanted);
            CHECK(block[at] != NULL);
            size[at] = malloc_usable_size(block[at]);
        }
        size_t offset = next_random(&state) % size[at];
        struct rcumalloc_block found = owner(block[at] + offset);
        CHECK(found.start == block[at] && found.size == size[at] && found.state == 1);
        CHECK(found.large == (found.class_index < 0) && found.age_ms == -1 &&
            found.at == RCUMALLOC_AT_UNKNOWN);
        CHECK(found.large || found.page_kind == RCUMALLOC_PAGE_SLAB);
        CHECK((uintptr_t)block[at] - (uintptr_t)found.mapping < found.mapping_bytes);
        struct rcumalloc_class_stats class;
        CHECK(found.large || (rcumalloc_class_stats((unsigned)found.class_index, &class, sizeof class) &&
                              class.block_bytes == found.size));
    }
    atomic_store(&stop, true);
    join(others[0]);
    join(others[1]);
    struct rcumalloc_block none = owner(&state);
    CHECK(none.start == NULL && none.page_kind == -1 && none.mapping == NULL);
    CHECK(!rcumalloc_owner((void *)UINTPTR_MAX, NULL, 0) && !rcumalloc_owner(NULL, NULL, 0));
    /* Whoever knows less is told less. */
    struct rcumalloc_block less;
    memset(&less, 0x5a, sizeof less);
    CHECK(rcumalloc_owner(block[0], &less, offsetof(struct rcumalloc_block, page_kind)));
    CHECK(less.start == block[0] && less.page_kind == 0x5a5a5a5a);
}

static void freed_blocks(void) {
    enum { MANY = 3000 };
    static char *block[MANY];
    rcumalloc_read_lock();
    for (int i = 0; i < MANY; i++) {
        block[i] = malloc(200);
    }
    char *large = malloc(300000);
    for (int i = 0; i < MANY; i++) {
        free(block[i]);
    }
    free(large);
    sleep_ms(20);
    struct rcumalloc_block found = owner(block[0] + 7);
    CHECK(found.start == block[0] && found.state == 2 && found.at == RCUMALLOC_AT_WAITS);
    CHECK(found.age_ms >= 10 && found.age_ms < 100000);
    /* With this thread, or past its share with all. */
    CHECK(found.thread == (uint32_t)gettid() || found.thread == 0);
    found = owner(large + 150000);
    CHECK(found.start == large && found.state == 2);
    CHECK(found.at == RCUMALLOC_AT_OPEN || found.at == RCUMALLOC_AT_WAITS);
    rcumalloc_read_unlock();
    rcumalloc_barrier();
    found = owner(block[0]);
    CHECK(found.start == NULL || (found.state == 2 && found.at >= RCUMALLOC_AT_READY));
}

/* The words of a block's pages are 8 bytes a page: a block that wrote them all would have 2 MiB of them. */
static void far_away(void) {
    size_t size = (size_t)1 << 30;
    free(malloc(100000));
    long before = rss_kib();
    char *block = malloc(size);
    CHECK(block != NULL);
    long after = rss_kib();
    uint64_t state = 7;
    for (int i = 0; i < 100000; i++) {
        CHECK(owner(block + next_random(&state) % size).start == block);
    }
    PRINT("grown_kib", after - before);
}

static char *volatile bad;
static char *block;

static void on_crash(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    struct rcumalloc_block found = owner(info->si_addr);
    PRINT("crashed_in", (uintptr_t)found.start == (uintptr_t)block && found.size >= 100000);
    _exit(0);
}

static void crash(void) {
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    block = malloc(100000);
    bad = block + 50000;
    CHECK(mprotect((void *)((uintptr_t)bad & ~4095UL), 4096, PROT_NONE) == 0);
    *bad = 1;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    if (strcmp(argv[1], "random") == 0) {
        random_pointers();
    } else if (strcmp(argv[1], "freed") == 0) {
        freed_blocks();
    } else if (strcmp(argv[1], "far") == 0) {
        far_away();
    } else {
        crash();
    }
    return 0;
}
