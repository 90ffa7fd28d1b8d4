/* What rcumalloc_check says of blocks that are freed before, in and outside of sections, by this thread and
 * by others, small and large; and that it accuses no reader of a list that is changed meanwhile. */
#include "victim.h"

#include <stdatomic.h>

enum { SIZES = 3 };
static const size_t SIZE[SIZES] = {40, 3000, 300000};

static atomic_uintptr_t shared_block;
static atomic_int stage;

static void reach(int next) {
    atomic_store(&stage, next);
    while (atomic_load(&stage) == next) {
        sched_yield();
    }
}

static void await(int wanted) {
    while (atomic_load(&stage) != wanted) {
        sched_yield();
    }
}

/* A reader whose section has begun when the block is freed, and one that begins later. */
static void *reader(void *size) {
    for (int late = 0; late < 2; late++) {
        await(1);
        char *block = (char *)atomic_load(&shared_block);
        rcumalloc_read_lock();
        CHECK(rcumalloc_check(block) == RCUMALLOC_CHECK_LIVE);
        CHECK(rcumalloc_check(block + (size_t)size - 1) == RCUMALLOC_CHECK_LIVE);
        if (late) {
            rcumalloc_read_unlock();
        }
        atomic_store(&stage, 2);
        await(3);
        if (late) {
            rcumalloc_read_lock();
        }
        for (int look = 0; look < 50; look++) {
            int wanted = late ? RCUMALLOC_CHECK_FREED_BEFORE : RCUMALLOC_CHECK_FREED;
            CHECK(rcumalloc_check(block + 7) == wanted);
            sleep_ms(1);
        }
        rcumalloc_read_unlock();
        CHECK(rcumalloc_check(block) == RCUMALLOC_CHECK_FREED_BEFORE);
        atomic_store(&stage, 4);
    }
    return NULL;
}

static void of_others(size_t size) {
    pthread_t other = start(reader, (void *)size);
    for (int late = 0; late < 2; late++) {
        char *block = malloc(size);
        atomic_store(&shared_block, (uintptr_t)block);
        reach(1);
        CHECK(atomic_load(&stage) == 2);
        free(block);
        if (late) {
            rcumalloc_barrier();
        }
        reach(3);
        CHECK(atomic_load(&stage) == 4);
        atomic_store(&stage, 0);
    }
    join(other);
}

/* Without a barrier, a cookie's age is what tells: a period has begun since, and this thread was seen to be
 * in no section meanwhile. */
static void by_cookie(void) {
    enum { MANY = 4000 };
    static void *block[MANY];
    for (int i = 0; i < MANY; i++) {
        block[i] = malloc(64);
    }
    for (int i = 0; i < MANY; i++) {
        free(block[i]);
    }
    rcumalloc_cookie cookie = rcumalloc_start_poll();
    rcumalloc_cond_synchronize_expedited(cookie);
    rcumalloc_read_lock();
    int before = 0;
    for (int i = 0; i < MANY; i++) {
        int found = rcumalloc_check(block[i]);
        CHECK(found == RCUMALLOC_CHECK_FREED || found == RCUMALLOC_CHECK_FREED_BEFORE);
        before += found == RCUMALLOC_CHECK_FREED_BEFORE;
    }
    rcumalloc_read_unlock();
    /* All but what the thread has not sealed. */
    CHECK(before > MANY / 4);
}

struct node {
    struct node *_Atomic next;
    uint64_t value;
};
static struct node *_Atomic list;
static atomic_bool stop;
static atomic_uint freed_in_sight;

static void *walk(void *unused) {
    (void)unused;
    while (!atomic_load(&stop)) {
        rcumalloc_read_lock();
        for (struct node *at = atomic_load(&list); at != NULL; at = atomic_load(&at->next)) {
            int found = rcumalloc_check(at);
            CHECK(found == RCUMALLOC_CHECK_LIVE || found == RCUMALLOC_CHECK_FREED);
            freed_in_sight += found == RCUMALLOC_CHECK_FREED;
            CHECK(at->value == 7);
        }
        rcumalloc_read_unlock();
    }
    return NULL;
}

static void of_readers(void) {
    pthread_t readers[3];
    for (int i = 0; i < 3; i++) {
        readers[i] = start(walk, NULL);
    }
    uint64_t until = now_ms() + 500;
    while (now_ms() < until) {
        struct node *node = malloc(sizeof *node);
        *node = (struct node){atomic_load(&list), 7};
        atomic_store(&list, node);
        struct node *second = atomic_load(&node->next);
        if (second != NULL && atomic_load(&second->next) != NULL) {
            struct node *third = atomic_load(&second->next);
            atomic_store(&second->next, atomic_load(&third->next));
            free(third);
        }
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 3; i++) {
        join(readers[i]);
    }
    PRINT("freed_in_sight", atomic_load(&freed_in_sight));
}

int main(void) {
    int local;
    CHECK(rcumalloc_check(NULL) == RCUMALLOC_CHECK_UNKNOWN);
    CHECK(rcumalloc_check(&local) == RCUMALLOC_CHECK_UNKNOWN);
    CHECK(rcumalloc_check((void *)UINTPTR_MAX) == RCUMALLOC_CHECK_UNKNOWN);
    for (int i = 0; i < SIZES; i++) {
        /* In this thread's own section, which has begun before. */
        rcumalloc_read_lock();
        char *block = malloc(SIZE[i]);
        CHECK(rcumalloc_check(block) == RCUMALLOC_CHECK_LIVE);
        free(block);
        CHECK(rcumalloc_check(block + SIZE[i] - 1) == RCUMALLOC_CHECK_FREED);
        rcumalloc_read_unlock();
        CHECK(rcumalloc_check(block) == RCUMALLOC_CHECK_FREED_BEFORE);
        of_others(SIZE[i]);
    }
    by_cookie();
    of_readers();
    return 0;
}
