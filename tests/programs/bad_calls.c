/* `bad_calls KIND`: one bad call, after printing the address it is made with as "address 0x…". Goes
 * on afterwards, if it is let, and prints "went on"; then allocates enough to see that no block is
 * given out twice. */
#include "victim.h"

/* C23; weak for a libc that has them not. */
__attribute__((weak)) extern void free_sized(void *, size_t);
__attribute__((weak)) extern void free_aligned_sized(void *, size_t, size_t);

static char *announce(void *block) {
    dprintf(1, "address %#llx\n", (unsigned long long)(uintptr_t)block);
    return block;
}

static void turn_magazines(size_t size) {
    enum { MANY = 2000 };
    void *block[MANY];
    for (int i = 0; i < MANY; i++) {
        block[i] = malloc(size);
    }
    for (int i = 0; i < MANY; i++) {
        free(block[i]);
    }
}

static void *free_it(void *block) {
    free(block);
    return NULL;
}
static void *nothing(void *unused) { return unused; }

static void *lock_and_end(void *unused) {
    rcumalloc_read_lock();
    return unused;
}

static void bad(const char *kind) {
#define KIND(name) else if (strcmp(kind, name) == 0)
    if (0) {
    }
    KIND("double_directly") {
        char *block = announce(malloc(64));
        free(block);
        free(block);
    }
    KIND("double_directly_concurrent") {
        join(start(nothing, NULL));
        char *block = announce(malloc(64));
        free(block);
        free(block);
    }
    KIND("double_behind_a_pair") {
        char *block = announce(malloc(64));
        free(block);
        free(malloc(1000)); /* another size class comes and goes */
        CHECK(malloc(64) == block); /* given out, ... */
        free(block);                /* ... and freed again: no mistake */
        free(block);
    }
    KIND("double_then_turn") {
        char *block = announce(malloc(64)), *other = malloc(64);
        free(block);
        free(other);
        free(block);
        turn_magazines(64);
    }
    KIND("double_then_exit") {
        char *block = announce(malloc(64)), *other = malloc(64);
        free(block);
        free(other);
        free(block);
    }
    KIND("double_concurrent_then_turn") {
        join(start(nothing, NULL));
        char *block = announce(malloc(64)), *other = malloc(64);
        free(block);
        free(other);
        free(block);
        turn_magazines(64);
    }
    KIND("double_concurrent_then_exit") {
        join(start(nothing, NULL));
        char *block = announce(malloc(64)), *other = malloc(64);
        free(block);
        free(other);
        free(block);
    }
    KIND("double_given_out_twice") { /* two owners, one of which goes on: nobody could tell */
        char *block = announce(malloc(64)), *other = malloc(64);
        free(block);
        free(other);
        free(block);
        CHECK(malloc(64) == block && malloc(64) == other && malloc(64) == block);
        free(block);
        turn_magazines(64);
    }
    KIND("double_given_out_twice_then_turn") { /* both owners free it */
        char *block = announce(malloc(64)), *other = malloc(64);
        free(block);
        free(other);
        free(block);
        CHECK(malloc(64) == block && malloc(64) == other && malloc(64) == block);
        free(block);
        free(other);
        free(block);
        turn_magazines(64);
    }
    KIND("double_in_two_threads") {
        char *block = announce(malloc(64));
        join(start(free_it, block));
        free(block);
        turn_magazines(64);
    }
    KIND("double_long_after") {
        join(start(nothing, NULL));
        char *block = announce(malloc(200));
        free(block);
        for (int i = 0; i < 40; i++) {
            free(malloc(200)); /* fills the magazine: these wait for a grace period */
        }
        free(block);
        for (int i = 0; i < 600; i++) {
            free(malloc(200));
        }
    }
    KIND("double_huge") {
        char *block = announce(malloc(5000000));
        free(block);
        free(block);
    }
    KIND("double_large") {
        char *block = announce(malloc(100000));
        free(block);
        free(block);
    }
    KIND("double_large_concurrent") {
        join(start(nothing, NULL));
        char *block = announce(malloc(100000));
        free(block);
        free(block);
    }
    KIND("double_delete_by_realloc") {
        char *block = announce(malloc(100000));
        CHECK(realloc(block, 0) == NULL);
        CHECK(realloc(block, 0) == NULL);
    }
    KIND("realloc_freed_large") {
        char *block = announce(malloc(100000));
        free(block);
        CHECK(realloc(block, 200000) == NULL);
    }
    KIND("interior") { free(announce((char *)malloc(64) + 16)); }
    KIND("interior_one") { free(announce((char *)malloc(64) + 1)); }
    KIND("interior_large") { free(announce((char *)malloc(100000) + 5000)); }
    KIND("interior_large_grown") { /* its pages were other blocks before, small and large */
        turn_magazines(2000);
        free(malloc(4000000));
        char *block = realloc(malloc(100000), 3000000);
        free(announce(block + 2999000));
    }
    KIND("interior_realloc") { CHECK(realloc(announce((char *)malloc(64) + 16), 100) == NULL); }
    KIND("interior_usable") { CHECK(malloc_usable_size(announce((char *)malloc(64) + 16)) == 0); }
    KIND("never_given") {
        /* In the slab of a live block, past everything given out. */
        char *block = malloc(100), *last = NULL;
        struct rcumalloc_block found;
        for (char *at = block; at < block + 65536 - 4096; at += 16) {
            if (rcumalloc_owner(at, &found, sizeof found) && found.state == 0 && found.start == at) {
                last = at;
            }
        }
        CHECK(last != NULL);
        free(announce(last));
        turn_magazines(100);
    }
    KIND("wild_in_window") {
        uintptr_t block = (uintptr_t)malloc(64);
        free(announce((void *)(block + ((size_t)1 << 30))));
    }
    KIND("sized_wrong") { free_sized(announce(malloc(100)), 200); }
    KIND("sized_wrong_large") { free_sized(announce(malloc(100000)), 100001); }
    KIND("aligned_sized_wrong") { free_aligned_sized(announce(aligned_alloc(64, 128)), 64, 256); }
    KIND("aligned_sized_bad_align") { free_aligned_sized(announce(aligned_alloc(64, 128)), 48, 128); }
    KIND("sized_right") {
        free_sized(announce(malloc(100)), 100);
        free_sized(malloc(0), 0);
        free_sized(malloc(100000), 100000);
        free_sized(NULL, 7);
        free_aligned_sized(aligned_alloc(64, 128), 64, 128);
        free_aligned_sized(aligned_alloc(8192, 8192), 8192, 8192);
        free_aligned_sized(NULL, 64, 7);
    }
    KIND("used_while_it_waits") {
        join(start(nothing, NULL));
        turn_magazines(64); /* the thread looks at the clock now and then */
        rcumalloc_read_lock();
        char *block = announce(malloc(64));
        free(block);
        turn_magazines(64);
        turn_magazines(64);
        sleep_ms(30);
        CHECK(realloc(block, 100) == NULL);
        rcumalloc_read_unlock();
    }
    KIND("used_before_it_waits") {
        join(start(nothing, NULL));
        char *block = announce(malloc(3000)), *other[60];
        for (int i = 0; i < 60; i++) {
            other[i] = malloc(3000);
        }
        free(block);
        for (int i = 0; i < 50; i++) {
            free(other[i]); /* so many bytes that what was freed is to wait now */
        }
        CHECK(realloc(block, 5000) == NULL);
    }
    KIND("used_when_ready") {
        char *block = announce(malloc(64));
        free(block);
        turn_magazines(64);
        CHECK(realloc(block, 100) == NULL);
    }
    KIND("freed_in_its_slab") {
        char *block = announce(malloc(5000)), *other = malloc(5000);
        free(block);
        malloc_trim(0); /* the slab stays, for the other block in it */
        CHECK(realloc(block, 100) == NULL);
        free(other);
    }
    KIND("offline_in_section") {
        rcumalloc_read_lock();
        rcumalloc_thread_offline();
        rcumalloc_read_unlock();
    }
    KIND("ended_in_section") { join(start(lock_and_end, NULL)); }
    KIND("strange_cookie") {
        rcumalloc_cookie cookie = {12345};
        CHECK(!rcumalloc_poll(cookie));
    }
    KIND("unlock") { rcumalloc_read_unlock(); }
    KIND("synchronize_in_section") {
        rcumalloc_read_lock();
        rcumalloc_synchronize();
    }
    KIND("barrier_in_section") {
        rcumalloc_read_lock();
        rcumalloc_barrier();
    }
    KIND("cond_synchronize_in_section") {
        rcumalloc_read_lock();
        rcumalloc_cond_synchronize_expedited(rcumalloc_start_poll());
    }
    else {
        CHECK(!"a kind of that name");
    }
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    bad(argv[1]);
    dprintf(1, "went on\n");
    if (strstr(argv[1], "then_exit") != NULL) {
        return 0;
    }
    enum { MANY = 30000 };
    static char *block[MANY];
    for (int i = 0; i < MANY; i++) {
        block[i] = malloc(64);
        fill(block[i], 64, i);
    }
    for (int i = 0; i < MANY; i++) {
        CHECK(filled(block[i], 64, i));
    }
    PRINT("bad_calls", stats().bad_calls);
    _exit(0);
}
