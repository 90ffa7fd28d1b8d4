/* rcumalloc_alloc_nowait in a signal handler, behind every single instruction of other calls: the processor's
 * trap flag raises SIGTRAP behind each. What the handler gets must be nobody else's. */
#include "victim.h"

#include <ucontext.h>

enum { SIZE = 64, MOST = 6000, HELD = 600 };

static uint64_t *given[MOST + HELD];
static size_t count, refused, steps;

/* Each block says whose it is, in its first and its last word. */
static void sign(uint64_t *block, uint64_t number) { block[0] = block[SIZE / 8 - 1] = number; }

static bool is_signed(const uint64_t *block, uint64_t number) {
    return block[0] == number && block[SIZE / 8 - 1] == number;
}

static void take(void) {
    uint64_t *block = rcumalloc_alloc_nowait(SIZE);
    if (block == NULL) {
        refused++;
    } else {
        given[count] = block;
        sign(block, ++count);
    }
}

static void on_trap(int number) {
    (void)number;
    int saved = errno;
    steps++;
    errno = 12345;
    /* No more, or rcumalloc_prefill would never have enough. */
    if (count < MOST) {
        take();
    }
    CHECK(errno == 12345);
    errno = saved;
}

static void set_trap_flag(void) {
    __asm__ __volatile__("pushfq; orl $0x100, (%%rsp); popfq" ::: "memory", "cc");
}
static void clear_trap_flag(void) {
    __asm__ __volatile__("pushfq; andl $~0x100, (%%rsp); popfq" ::: "memory", "cc");
}

/* What is interrupted. */
static void *blocks[HELD];

static void small(void) { blocks[0] = malloc(SIZE); }
static void other_class(void) { blocks[0] = malloc(5000); }
static void large(void) { blocks[0] = malloc(300000); }
static void zeros(void) { blocks[0] = calloc(3, 100); }
static void grow(void) { blocks[0] = realloc(malloc(SIZE), 900); }
static void free_some(void) {
    for (int i = 0; i < HELD; i++) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
}
static void many(void) {
    for (int i = 0; i < HELD; i++) {
        blocks[i] = malloc(SIZE);
        sign(blocks[i], UINT64_MAX - (uint64_t)i);
    }
}
static void prefill(void) { CHECK(rcumalloc_prefill(SIZE, MOST + HELD + 100) > MOST); }
static void nowait(void) {
    for (int i = 0; i < 200; i++) {
        take();
    }
}
static void section(void) {
    rcumalloc_read_lock();
    rcumalloc_read_unlock();
}

static void interrupted(void (*call)(void)) {
    CHECK(rcumalloc_prefill(SIZE, MOST + HELD + 1) > MOST + HELD);
    count = steps = 0;
    set_trap_flag();
    call();
    clear_trap_flag();
    CHECK(steps > 10 && count > 10);
    for (size_t i = 0; i < count; i++) {
        CHECK(is_signed(given[i], i + 1));
    }
    for (int i = 0; i < HELD && call == many; i++) {
        CHECK(is_signed(blocks[i], UINT64_MAX - (uint64_t)i));
    }
    for (size_t i = 0; i < count; i++) {
        free(given[i]);
    }
}

static void *in_a_thread(void *argument) {
    (void)argument;
    CHECK(rcumalloc_alloc_nowait(SIZE) == NULL);
    interrupted(many);
    interrupted(free_some);
    return NULL;
}

/* A thread that ends has nothing aside any more, and nothing that it had is lost. */
static pthread_key_t key;

static void at_the_end(void *rounds) {
    if ((intptr_t)rounds > 1) {
        CHECK(pthread_setspecific(key, (void *)((intptr_t)rounds - 1)) == 0);
    } else {
        CHECK(rcumalloc_alloc_nowait(SIZE) == NULL);
    }
}

static void *that_ends(void *argument) {
    (void)argument;
    CHECK(rcumalloc_prefill(SIZE, 100) == 100);
    CHECK(pthread_setspecific(key, (void *)4) == 0);
    return NULL;
}

static uint64_t live(void) {
    struct rcumalloc_stats stats;
    CHECK(rcumalloc_stats(&stats, sizeof stats));
    return stats.live_bytes;
}

int main(int argc, char **argv) {
    bool threads = argc > 1 && strcmp(argv[1], "threads") == 0;
    struct sigaction action = {.sa_handler = on_trap};
    CHECK(sigaction(SIGTRAP, &action, NULL) == 0);
    /* Nothing put aside: nothing is there, of any size. */
    CHECK(rcumalloc_alloc_nowait(SIZE) == NULL && rcumalloc_alloc_nowait(SIZE_MAX) == NULL);
    CHECK(rcumalloc_prefill(1 << 20, 1) == 0);
    CHECK(rcumalloc_prefill(100, 3) == 3 && rcumalloc_prefill(100, 2) == 3);
    for (int i = 0; i < 3; i++) {
        void *block = rcumalloc_alloc_nowait(100);
        CHECK(block != NULL && malloc_usable_size(block) >= 100);
        free(block);
    }
    CHECK(rcumalloc_alloc_nowait(100) == NULL);
    if (threads) {
        rcumalloc_read_lock();
        rcumalloc_read_unlock();
    }
    static void (*const calls[])(void) = {small,   other_class, large,  zeros,   grow, many,
                                          free_some, prefill,   nowait, section, many, free_some};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        interrupted(calls[i]);
    }
    CHECK(refused == 0);
    /* What a thread has aside goes back with it. */
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, in_a_thread, NULL) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(pthread_key_create(&key, at_the_end) == 0);
    uint64_t before = live();
    for (int i = 0; i < 20; i++) {
        CHECK(pthread_create(&thread, NULL, that_ends, NULL) == 0 && pthread_join(thread, NULL) == 0);
    }
    rcumalloc_barrier();
    CHECK(live() < before + 40 * SIZE);
    dprintf(1, "done\n");
    return 0;
}
