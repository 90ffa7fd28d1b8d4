/* Every call of the header and of libc's malloc, in a random order, from threads that begin and end: each
 * block keeps what was written to it, is as large and as aligned as was asked for, and what a section has
 * found stays as it was. Arguments: seconds, threads at a time (0: none but main), seed. */
#include "victim.h"
#include <stdatomic.h>

#include <sys/time.h>

#define WEAK __attribute__((weak))
WEAK void *mallocx(size_t, int);
WEAK void *rallocx(void *, size_t, int);
WEAK size_t xallocx(void *, size_t, size_t, int);
WEAK size_t sallocx(const void *, int);
WEAK size_t nallocx(size_t, int);
WEAK void dallocx(void *, int);
WEAK void sdallocx(void *, size_t, int);
WEAK void free_sized(void *, size_t);
WEAK void free_aligned_sized(void *, size_t, size_t);
WEAK void *_ZnwmRKSt9nothrow_t(size_t, const void *);
WEAK void _ZdlPvm(void *, size_t);
WEAK void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t, size_t, const void *);
WEAK void _ZdaPvmSt11align_val_t(void *, size_t, size_t);
WEAK size_t malloc_size(const void *);

enum { HELD = 160, HANDED = 64, SHOWN = 24, GOT = 32, BURST = 2500, POOLS = 4 };

struct block {
    unsigned char *at;
    size_t asked, align, usable;
    uint64_t mark;
    bool by_x; /* by one of jemalloc's calls, whose sizes the others need not know */
};

struct worker {
    uint64_t seed;
    uint64_t deadline;
    int depth; /* forks above */
    volatile int got_count;
    struct { void *at; size_t size; } got[GOT];
    struct block held[HELD];
    struct { unsigned char *at; int pool; uint64_t mark; } object[48];
};

static struct {
    atomic_int state; /* 0 empty, 1 somebody has it in hand, 2 full */
    struct block block;
} handed[HANDED];

struct shown {
    uint64_t size, mark;
    uint64_t words[];
};
static _Atomic(struct shown *) shown[SHOWN];

static rcumalloc_pool *pools[POOLS];
static const size_t pool_size[POOLS] = {24, 200, 1000, 70000}, pool_align[POOLS] = {0, 64, 0, 4096};
static const unsigned pool_flags[POOLS] = {RCUMALLOC_POOL_TYPESAFE, 0, 0, RCUMALLOC_POOL_TYPESAFE};
static __thread struct worker *self;
static atomic_ulong queued, called, failed, done;
static bool plain_waits;
static int threads_at_a_time, null_fd;
static uint64_t first_seed;
static pthread_key_t key;
static const char *volatile doing = "";
static size_t allowed_fork = 40;

static unsigned below(struct worker *w, unsigned n) { return (unsigned)((next_random(&w->seed) >> 16) % n); }

static size_t any_size(struct worker *w) {
    unsigned how = below(w, 1000);
    if (how < 20) {
        return below(w, 3);
    }
    if (how < 600) {
        return below(w, 512) + 1;
    }
    if (how < 850) {
        return below(w, 5000) + 1;
    }
    if (how < 950) {
        return below(w, 40000) + 1;
    }
    if (how < 970) { /* about a power of two */
        return ((size_t)1 << below(w, 21)) + below(w, 33) - (below(w, 2) ? 1 : 0);
    }
    if (how < 997) {
        return below(w, 400000) + 1;
    }
    return below(w, 4 << 20) + 1;
}

static uint64_t word(uint64_t mark, size_t at) { return mark + at * 0x9E3779B97F4A7C15u; }

/* Where words of a block of so many bytes are looked at. */
static size_t place(size_t usable, unsigned number) { return ((usable - 8) / 8 * number / 8) * 8; }

static void write_all(struct block *b) {
    if (b->usable < 8) {
        memset(b->at, (int)b->mark, b->usable);
        return;
    }
    for (unsigned n = 0; n <= 8; n++) {
        size_t at = place(b->usable, n);
        uint64_t w = word(b->mark, at);
        memcpy(b->at + at, &w, 8);
    }
    b->at[b->usable - 1] = (unsigned char)b->mark; /* may lie in the last word if that is not aligned */
}

static bool as_written(const struct block *b) {
    if (b->usable < 8) {
        for (size_t i = 0; i < b->usable; i++) {
            if (b->at[i] != (unsigned char)b->mark) {
                return false;
            }
        }
        return true;
    }
    for (unsigned n = 0; n <= 8; n++) {
        size_t at = place(b->usable, n);
        uint64_t w = word(b->mark, at), is;
        memcpy(&is, b->at + at, 8);
        if (at + 8 == b->usable) {
            memcpy((unsigned char *)&w + 7, &b->mark, 1);
        }
        if (is != w) {
            dprintf(2, "block %p of %zu (%zu) differs at %zu: %#lx, not %#lx\n", (void *)b->at, b->asked,
                    b->usable, at, (long)is, (long)w);
            return false;
        }
    }
    return b->at[b->usable - 1] == (unsigned char)b->mark;
}

/* Takes a block that was just handed out. */
static bool take(struct worker *w, struct block *b, void *at, size_t asked, size_t align, bool zeros) {
    if (at == NULL) {
        atomic_fetch_add(&failed, 1);
        b->at = NULL;
        return false;
    }
    CHECK((uintptr_t)at % align == 0);
    *b = (struct block){at, asked, align, malloc_usable_size(at), next_random(&w->seed), false};
    CHECK(b->usable >= asked);
    if (zeros) {
        unsigned char *bytes = at;
        CHECK(asked == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, asked - 1) == 0));
    }
    write_all(b);
    return true;
}

static int lg(size_t align) { return __builtin_ctzll(align); }

static bool obtain(struct worker *w, struct block *b, size_t size) {
    static const char nothrow;
    size_t natural = size > 8 ? 16 : 8; /* what malloc aligns to */
    size_t align = (size_t)8 << below(w, below(w, 20) == 0 ? 15 : 6);
    void *at = NULL;
    switch (below(w, 24)) {
    default:
        return take(w, b, malloc(size), size, natural, false);
    case 0: case 1: case 2:
        return take(w, b, calloc(1, size), size, natural, true);
    case 3: {
        size_t n = below(w, 9) + 1;
        return take(w, b, calloc(n, size / n), size / n * n, natural, true);
    }
    case 4:
        return take(w, b, realloc(NULL, size), size, natural, false);
    case 5:
        return take(w, b, reallocarray(NULL, 3, size / 3), size / 3 * 3, natural, false);
    case 6:
        return take(w, b, memalign(align, size), size, align, false);
    case 7:
        return take(w, b, aligned_alloc(align, size), size, align, false);
    case 8:
        return take(w, b, posix_memalign(&at, align, size) == 0 ? at : NULL, size, align, false);
    case 9:
        return below(w, 4) ? take(w, b, malloc(size), size, natural, false)
                           : take(w, b, valloc(size), size, 4096, false);
    case 10: case 11: {
        size_t real = nallocx(size + 1, lg(align));
        at = mallocx(size + 1, lg(align));
        bool is = take(w, b, at, size + 1, align, false);
        if (is && !(sallocx(at, 0) == b->usable && b->usable >= real)) {
            dprintf(2, "mallocx %zu align %zu: nallocx %zu sallocx %zu usable %zu\n", size + 1, align, real,
                    sallocx(at, 0), b->usable);
            _exit(1);
        }
        b->by_x = true;
        return is;
    }
    case 12: {
        bool is = take(w, b, mallocx(size + 1, lg(align) | 0x40), size + 1, align, true);
        b->by_x = true;
        return is;
    }
    case 13:
        return take(w, b, _ZnwmRKSt9nothrow_t(size, &nothrow), size, natural, false);
    case 14:
        return take(w, b, _ZnamSt11align_val_tRKSt9nothrow_t(size, align, &nothrow), size, align, false);
    case 15:
        at = rcumalloc_alloc_nowait(size);
        if (at == NULL) {
            rcumalloc_prefill(size < 16384 ? size : 100, below(w, 40));
            return take(w, b, malloc(size), size, natural, false);
        }
        return take(w, b, at, size, natural, false);
    }
}

static void check_block(const struct block *b) {
    CHECK(as_written(b));
    CHECK(malloc_usable_size(b->at) == b->usable);
}

/* A block that waited for rcumalloc_call: its record lies behind it. */
struct waits {
    rcumalloc_head head;
    struct block block;
};

static void run_call(void *p) {
    struct waits *waits = p;
    check_block(&waits->block);
    free(waits->block.at);
    rcumalloc_free_now(waits);
    atomic_fetch_add(&called, 1);
}
static void run_head(rcumalloc_head *head) { run_call(head); }

static void give(struct worker *w, struct block *b) {
    check_block(b);
    void *at = b->at;
    b->at = NULL;
    unsigned how = below(w, 22);
    if (b->by_x && (how == 4 || how == 7)) {
        how = 6;
    }
    switch (how) {
    default:
        free(at);
        break;
    case 0: case 1: case 2:
        rcumalloc_free(at);
        break;
    case 3:
        rcumalloc_free_now(at);
        break;
    case 4:
        b->align > 16 ? free_aligned_sized(at, b->align, b->asked) : free_sized(at, b->asked);
        break;
    case 5:
        dallocx(at, 0);
        break;
    case 6:
        sdallocx(at, b->asked, b->align > 16 ? lg(b->align) : 0);
        break;
    case 7:
        b->align > 16 ? _ZdaPvmSt11align_val_t(at, b->asked, b->align) : _ZdlPvm(at, b->asked);
        break;
    case 8: {
        void *all[] = {at, NULL, malloc(b->asked), malloc(24)};
        rcumalloc_free_bulk(all, 4);
        break;
    }
    case 9: {
        struct waits *waits = malloc(sizeof *waits);
        if (waits == NULL) {
            free(at);
            break;
        }
        waits->block = *b;
        waits->block.at = at;
        if (below(w, 2) == 0) {
            atomic_fetch_add(&queued, 1);
            rcumalloc_call_head(&waits->head, run_head);
        } else if (rcumalloc_call(waits, run_call)) {
            atomic_fetch_add(&queued, 1);
        } else {
            free(at);
            free(waits);
        }
        break;
    }
    }
}

/* Copies what is at the looked-at places of the smaller size, moves, and compares. */
static void resize(struct worker *w, struct block *b) {
    check_block(b);
    size_t size = below(w, 2) ? any_size(w) : b->asked / 2 + below(w, (unsigned)b->asked + 8) + 1;
    size += size == 0;
    size_t kept = size < b->asked ? size : b->asked;
    unsigned char *copy = malloc(kept + 1);
    if (copy == NULL) {
        return;
    }
    memcpy(copy, b->at, kept);
    void *moved;
    bool zeros = false, by_x = false;
    size_t align = b->align > 4096 ? 8 : b->align;
    switch (below(w, 6)) {
    default:
        align = 8;
        moved = realloc(b->at, size);
        break;
    case 0:
        align = 8;
        size = size / 2 * 2;
        kept = size < kept ? size : kept;
        if (size == 0) {
            free(copy);
            return;
        }
        moved = reallocarray(b->at, size / 2, 2);
        break;
    case 1:
        by_x = true;
        moved = rallocx(b->at, size, lg(align));
        break;
    case 2:
        zeros = by_x = true;
        moved = rallocx(b->at, size, lg(align) | 0x40);
        break;
    case 3: {
        size_t now = xallocx(b->at, size, below(w, 1000), 0);
        CHECK(now == malloc_usable_size(b->at));
        moved = b->at;
        align = b->align;
        by_x = true;
        size = now;
        kept = size < kept ? size : kept;
        break;
    }
    }
    if (moved == NULL) {
        check_block(b);
        atomic_fetch_add(&failed, 1);
    } else {
        CHECK(memcmp(copy, moved, kept) == 0);
        if (zeros && size > b->usable) { /* what is new beyond what it held */
            const unsigned char *bytes = moved;
            for (size_t i = b->usable; i < size; i++) {
                CHECK(bytes[i] == 0);
            }
        }
        take(w, b, moved, size, align, false);
        b->by_x = by_x;
    }
    free(copy);
}

static bool may_free_plainly(void *p, struct worker *w) {
    (void)p;
    return plain_waits && below(w, 2) == 0;
}

/* Blocks freed in a section stay as they were until its end. */
static void freed_in_section(struct worker *w) {
    enum { MANY = 40 };
    struct block kept[MANY];
    unsigned char *copy[MANY];
    rcumalloc_reader *reader = below(w, 2) ? rcumalloc_reader_self() : NULL;
    int count = 0, turns = (int)below(w, 30);
    size_t size = any_size(w);
    for (; count < MANY && size * (unsigned)count < 3 << 20; count++) {
        size_t one = below(w, 3) ? size : any_size(w) % 100000;
        if (!obtain(w, &kept[count], one)) {
            break;
        }
        copy[count] = NULL;
        if (kept[count].usable < 20000) {
            copy[count] = malloc(kept[count].usable);
            if (copy[count] != NULL) {
                for (size_t i = 8; i + 8 < kept[count].usable; i++) {
                    kept[count].at[i] = (unsigned char)(i * 7);
                }
                write_all(&kept[count]);
                memcpy(copy[count], kept[count].at, kept[count].usable);
            }
        }
    }
    if (reader != NULL) {
        rcumalloc_reader_lock(reader);
    } else {
        rcumalloc_read_lock();
    }
    for (int i = 0; i < count; i++) {
        if (may_free_plainly(kept[i].at, w)) {
            if (below(w, 3)) {
                free(kept[i].at);
            } else {
                void *q = realloc(kept[i].at, kept[i].asked * 2 + 40);
                if (q == NULL) {
                    rcumalloc_free(kept[i].at);
                } else {
                    free(q);
                }
            }
        } else {
            rcumalloc_free(kept[i].at);
        }
    }
    CHECK(rcumalloc_read_held());
    for (int turn = 0; turn < turns; turn++) {
        struct block b[20];
        for (int i = 0; i < 20; i++) {
            obtain(w, &b[i], below(w, 2) ? size : any_size(w));
        }
        if (below(w, 40) == 0) {
            malloc_trim(0);
        }
        for (int i = 0; i < 20; i++) {
            if (b[i].at != NULL) {
                give(w, &b[i]);
            }
        }
    }
    for (int i = 0; i < count; i++) {
        CHECK(as_written(&kept[i]));
        CHECK(copy[i] == NULL || memcmp(copy[i], kept[i].at, kept[i].usable) == 0);
        CHECK(rcumalloc_check(kept[i].at) != RCUMALLOC_CHECK_FREED_BEFORE);
    }
    if (reader != NULL) {
        rcumalloc_reader_unlock(reader);
    } else {
        rcumalloc_read_unlock();
    }
    for (int i = 0; i < count; i++) {
        free(copy[i]);
    }
}

static bool is_shown_well(struct shown *s) {
    if (s->size < 1 || s->size > 20000) {
        return false;
    }
    for (uint64_t i = 0; i < s->size; i += 1 + s->size / 50) {
        if (s->words[i] != word(s->mark, i)) {
            return false;
        }
    }
    return s->words[s->size - 1] == word(s->mark, s->size - 1);
}

static void look(struct worker *w) {
    rcumalloc_read_lock();
    struct shown *s = atomic_load(&shown[below(w, SHOWN)]);
    if (s != NULL) {
        CHECK(is_shown_well(s));
        for (int turn = (int)below(w, 20); turn > 0; turn--) {
            struct block b;
            if (obtain(w, &b, below(w, 2) ? s->size * 8 : any_size(w) % 5000)) {
                give(w, &b);
            }
        }
        if (below(w, 30) == 0) {
            sched_yield();
        }
        CHECK(is_shown_well(s));
    }
    rcumalloc_read_unlock();
}

static void free_shown(void *p) {
    CHECK(is_shown_well(p));
    rcumalloc_free_now(p);
    atomic_fetch_add(&called, 1);
}

static void show(struct worker *w) {
    size_t words = below(w, below(w, 30) ? 100 : 20000) + 1;
    struct shown *fresh = malloc(sizeof *fresh + words * 8);
    if (fresh != NULL) {
        fresh->size = words;
        fresh->mark = next_random(&w->seed);
        for (size_t i = 0; i < words; i++) {
            fresh->words[i] = word(fresh->mark, i);
        }
    }
    struct shown *old = atomic_exchange(&shown[below(w, SHOWN)], fresh);
    if (old == NULL) {
        return;
    }
    CHECK(is_shown_well(old));
    if (may_free_plainly(old, w)) {
        free(old);
        return;
    }
    switch (below(w, 8)) {
    default:
        rcumalloc_free(old);
        break;
    case 0: {
        void *all[] = {NULL, old, malloc(100)};
        rcumalloc_free_bulk(all, 3);
        break;
    }
    case 1:
        if (rcumalloc_call(old, free_shown)) {
            atomic_fetch_add(&queued, 1);
        } else {
            rcumalloc_free(old);
        }
        break;
    case 2:
        if (below(w, 10) == 0) {
            if (below(w, 10) == 0) {
                rcumalloc_synchronize();
            } else {
                rcumalloc_synchronize_expedited();
            }
            rcumalloc_free_now(old);
        } else {
            rcumalloc_free(old);
        }
        break;
    case 3:
        if (below(w, 10) == 0) {
            rcumalloc_cookie cookie = rcumalloc_start_poll();
            if (!rcumalloc_poll(cookie)) {
                rcumalloc_cond_synchronize_expedited(cookie);
            }
            CHECK(rcumalloc_poll(cookie));
            rcumalloc_free_now(old);
        } else {
            rcumalloc_free(old);
        }
    }
}

static void use_pools(struct worker *w) {
    for (int turn = (int)below(w, 60); turn > 0; turn--) {
        unsigned n = below(w, 48);
        if (w->object[n].at == NULL) {
            int pool = below(w, 40) == 0 ? 3 : (int)below(w, 3);
            unsigned char *at = rcumalloc_pool_alloc(pools[pool]);
            if (at == NULL) {
                atomic_fetch_add(&failed, 1);
                continue;
            }
            CHECK((uintptr_t)at % (pool_align[pool] ? pool_align[pool] : 8) == 0);
            size_t size = pool_size[pool];
            uint64_t first, last;
            memcpy(&first, at, 8);
            memcpy(&last, at + size - 8, 8);
            CHECK(first == last); /* zeros, or as it was freed */
            w->object[n].mark = next_random(&w->seed);
            memcpy(at, &w->object[n].mark, 8);
            memcpy(at + size - 8, &w->object[n].mark, 8);
            w->object[n].at = at;
            w->object[n].pool = pool;
        } else {
            unsigned char *at = w->object[n].at;
            size_t size = pool_size[w->object[n].pool];
            CHECK(memcmp(at, &w->object[n].mark, 8) == 0);
            CHECK(memcmp(at + size - 8, &w->object[n].mark, 8) == 0);
            bool in_section = below(w, 10) == 0;
            if (in_section) {
                rcumalloc_read_lock();
            }
            rcumalloc_pool_free(pools[w->object[n].pool], at);
            if (in_section) {
                if (!(pool_flags[w->object[n].pool] & RCUMALLOC_POOL_TYPESAFE)) {
                    for (int i = 0; i < 4; i++) { /* not handed out again */
                        unsigned char *more = rcumalloc_pool_alloc(pools[w->object[n].pool]);
                        CHECK(more != at);
                        rcumalloc_pool_free(pools[w->object[n].pool], more);
                    }
                    CHECK(memcmp(at, &w->object[n].mark, 8) == 0);
                }
                rcumalloc_read_unlock();
            }
            w->object[n].at = NULL;
        }
    }
}

static void a_pool_of_its_own(struct worker *w) {
    size_t size = below(w, 20) ? below(w, 900) + 8 : below(w, 300000) + 8;
    size_t align = below(w, 2) ? 0 : (size_t)1 << below(w, 13);
    rcumalloc_pool *pool = rcumalloc_pool_create("its own", size, align, below(w, 2));
    if (pool == NULL) {
        atomic_fetch_add(&failed, 1);
        return;
    }
    void *objects[100];
    int count = (int)below(w, size > 10000 ? 6 : 100);
    for (int i = 0; i < count; i++) {
        objects[i] = rcumalloc_pool_alloc(pool);
        if (objects[i] != NULL) {
            CHECK(align == 0 || (uintptr_t)objects[i] % align == 0);
            memset(objects[i], 7, size);
        }
    }
    for (int i = 0; i < count; i++) {
        rcumalloc_pool_free(pool, objects[i]);
    }
    CHECK(rcumalloc_pool_destroy(pool));
}

static void burst(struct worker *w) {
    size_t size = any_size(w);
    unsigned count = 1 + below(w, BURST);
    if (size * count > 3 << 20) {
        count = (unsigned)((3 << 20) / size + 1);
    }
    struct block *all = calloc(count, sizeof *all);
    if (all == NULL) {
        return;
    }
    bool mixed = below(w, 2);
    for (unsigned i = 0; i < count; i++) {
        if (mixed) {
            obtain(w, &all[i], size);
        } else {
            take(w, &all[i], malloc(size), size, 8, false);
        }
    }
    unsigned kind = below(w, 5);
    for (unsigned i = 0; i < count; i++) {
        struct block *b = &all[kind == 1 ? count - 1 - i : i];
        if (b->at == NULL) {
            continue;
        }
        if (kind == 2) {
            check_block(b);
            rcumalloc_free(b->at);
        } else if (kind == 3) {
            check_block(b);
            free(b->at);
        } else if (kind == 4) {
            check_block(b);
            rcumalloc_free_now(b->at);
        } else {
            give(w, b);
        }
    }
    free(all);
}

static void hand_over(struct worker *w) {
    for (int turn = 0; turn < 20; turn++) {
        unsigned n = below(w, HANDED);
        struct block *b = &w->held[below(w, HELD)];
        int full = 2, empty = 0;
        if (b->at == NULL) {
            if (atomic_compare_exchange_strong(&handed[n].state, &full, 1)) {
                *b = handed[n].block;
                atomic_store(&handed[n].state, 0);
                check_block(b);
            }
        } else if (atomic_compare_exchange_strong(&handed[n].state, &empty, 1)) {
            handed[n].block = *b;
            b->at = NULL;
            atomic_store(&handed[n].state, 2);
        }
    }
}

static void ask(struct worker *w) {
    struct rcumalloc_stats s;
    struct rcumalloc_page_stats p;
    struct rcumalloc_class_stats c;
    struct rcumalloc_block r;
    switch (below(w, 16)) {
    case 0:
        CHECK(rcumalloc_stats(&s, sizeof s));
        CHECK(s.bad_calls == 0);
        break;
    case 1:
        CHECK(rcumalloc_page_stats(&p, sizeof p));
        break;
    case 2:
        CHECK(rcumalloc_class_stats(below(w, 20), &c, sizeof c));
        break;
    case 3: {
        struct mallinfo2 info = mallinfo2();
        CHECK(info.uordblks + info.fordblks <= (size_t)1 << 46);
        break;
    }
    case 4:
        if (below(w, 8) == 0) {
            CHECK(rcumalloc_stats_write(null_fd, below(w, 2) ? "json" : "text"));
            CHECK(rcumalloc_stalls_write(null_fd, "folded"));
        }
        break;
    case 5: case 6: {
        struct block *b = &w->held[below(w, HELD)];
        if (b->at != NULL) {
            CHECK(rcumalloc_owner(b->at + (b->usable ? below(w, (unsigned)b->usable) : 0), &r, sizeof r));
            if (!(r.start == b->at && r.state == 1 && r.size == b->usable)) {
                dprintf(2, "owner of %p %zu (%zu): %p state %d size %zu large %d kind %d\n", (void *)b->at,
                        b->asked, b->usable, r.start, r.state, r.size, r.large, r.page_kind);
                CHECK(!"owner");
            }
            CHECK(rcumalloc_check(b->at) == RCUMALLOC_CHECK_LIVE);
            CHECK(malloc_size(b->at) == b->usable);
        }
        break;
    }
    case 7:
        if (below(w, 10) == 0) {
            malloc_trim(0);
        }
        break;
    case 8:
        rcumalloc_shrink_count();
        if (below(w, 4) == 0) {
            rcumalloc_shrink_scan(below(w, 1 << 22));
        }
        break;
    case 9:
        if (below(w, 6) == 0) {
            rcumalloc_pressure((int)below(w, 3));
        }
        break;
    case 10: {
        static const char *const set[][2] = {
            {"RCUMALLOC_BUDGET", "100K"}, {"RCUMALLOC_BUDGET", "8M"}, {"RCUMALLOC_BUDGET", "12%"},
            {"RCUMALLOC_GP_AGE_MS", "1"}, {"RCUMALLOC_GP_AGE_MS", "1000"}, {"RCUMALLOC_BACKOFF_MS", "0"},
            {"RCUMALLOC_BACKOFF_MS", "2000"}, {"RCUMALLOC_LIMIT", "4M"}, {"RCUMALLOC_LIMIT", "512M"},
            {"RCUMALLOC_HARD_LIMIT", "1G"}, {"RCUMALLOC_WATCH", "1"}, {"RCUMALLOC_WATCH", "0"},
            {"RCUMALLOC_BUDGET", "2M"}, {"RCUMALLOC_STALL_MS", "5000"},
        };
        unsigned n = below(w, sizeof set / sizeof *set);
        char value[64];
        /* The figures for others want pages, too. */
        CHECK(rcumalloc_set(set[n][0], set[n][1]) || strcmp(set[n][0], "RCUMALLOC_WATCH") == 0);
        CHECK(rcumalloc_get(set[n][0], value, sizeof value) > 0);
        break;
    }
    case 11:
        rcumalloc_quiescent_state();
        break;
    case 12:
        rcumalloc_thread_offline();
        for (int i = (int)below(w, 30); i > 0; i--) {
            struct block b;
            if (obtain(w, &b, any_size(w) % 3000)) {
                give(w, &b);
            }
        }
        rcumalloc_thread_online();
        break;
    case 13:
        if (below(w, 20) == 0) {
            rcumalloc_barrier();
        }
        break;
    case 14:
        if (below(w, 12) == 0) {
            if (rcumalloc_profile_start(4096)) {
                sched_yield();
            } else {
                rcumalloc_profile_write(null_fd);
                rcumalloc_profile_stop();
            }
        }
        break;
    case 15:
        if (below(w, 20) == 0) {
            FILE *file = fopen("/dev/null", "w");
            if (file != NULL) {
                malloc_info(0, file);
                fclose(file);
            }
        }
    }
}

/* In a handler: a section, a look, and a block of those put aside. */
static void on_signal(int signal) {
    (void)signal;
    int was = errno;
    struct worker *w = self;
    if (w == NULL) { /* a thread that begins, whose record there may be no memory for */
        return;
    }
    rcumalloc_read_lock();
    struct shown *s = atomic_load(&shown[(unsigned)now_ms() % SHOWN]);
    CHECK(s == NULL || is_shown_well(s));
    rcumalloc_read_unlock();
    if (w->got_count < GOT) {
        size_t size = 1 + (unsigned)now_ms() % 300;
        void *at = rcumalloc_alloc_nowait(size);
        if (at != NULL) {
            memset(at, 0x5a, size);
            w->got[w->got_count].at = at;
            w->got[w->got_count].size = size;
            w->got_count++;
        }
    }
    errno = was;
}

static void drain_got(struct worker *w) {
    sigset_t set, was;
    sigemptyset(&set);
    sigaddset(&set, SIGPROF);
    pthread_sigmask(SIG_BLOCK, &set, &was);
    for (int i = 0; i < w->got_count; i++) {
        unsigned char *at = w->got[i].at;
        for (size_t n = 0; n < w->got[i].size; n++) {
            CHECK(at[n] == 0x5a);
        }
        free(at);
    }
    w->got_count = 0;
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    rcumalloc_prefill(1 + below(w, 300), 8);
}

static void work(struct worker *w);
static void *begin(void *seed);

static void fork_one(struct worker *w) {
    pid_t pid = fork();
    if (pid < 0) {
        return;
    }
    if (pid == 0) {
        alarm(40);
        w->depth++;
        w->seed ^= 0xABCDEF;
        w->deadline = now_ms() + 60;
        for (int i = 0; i < HELD; i++) {
            if (w->held[i].at != NULL) {
                check_block(&w->held[i]);
            }
        }
        pthread_t thread;
        bool has = threads_at_a_time > 0 && pthread_create(&thread, NULL, begin, w) == 0;
        work(w);
        if (has) {
            join(thread);
        }
        if (below(w, 2)) {
            rcumalloc_barrier();
        }
        CHECK(stats().bad_calls == 0);
        below(w, 2) ? exit(0) : _exit(0);
    }
    reap(pid);
}

static void work(struct worker *w) {
    while (now_ms() < w->deadline) {
        for (int i = 0; i < 40; i++) {
            struct block *b = &w->held[below(w, HELD)];
            unsigned how = below(w, 1000);
            if (how < 940) {
                if (b->at == NULL) {
                    obtain(w, b, any_size(w));
                } else if (below(w, 4) == 0) {
                    resize(w, b);
                } else {
                    give(w, b);
                }
            } else if (how < 950) {
                look(w);
            } else if (how < 965) {
                show(w);
            } else if (how < 968) {
                freed_in_section(w);
            } else if (how < 972) {
                burst(w);
            } else if (how < 977) {
                hand_over(w);
            } else if (how < 983) {
                use_pools(w);
            } else if (how < 984) {
                a_pool_of_its_own(w);
            } else if (how < 996) {
                ask(w);
            } else if (how < 998) {
                drain_got(w);
            } else if (w->depth == 0 && below(w, (unsigned)allowed_fork) == 0) {
                fork_one(w);
            }
        }
    }
}

/* Gives everything back. */
static void end(struct worker *w) {
    for (int i = 0; i < HELD; i++) {
        if (w->held[i].at != NULL) {
            give(w, &w->held[i]);
        }
    }
    for (int i = 0; i < 48; i++) {
        if (w->object[i].at != NULL) {
            rcumalloc_pool_free(pools[w->object[i].pool], w->object[i].at);
            w->object[i].at = NULL;
        }
    }
    drain_got(w);
}

/* At the thread's end, among its destructors. */
static void at_end(void *of) {
    struct worker *w = of;
    for (int i = 0; i < 10; i++) {
        struct block b;
        if (obtain(w, &b, any_size(w) % 2000)) {
            give(w, &b);
        }
    }
    end(w);
    self = NULL;
    if (below(w, 2)) {
        free(w);
    } else {
        rcumalloc_free(w);
    }
}

static void *begin(void *of) {
    struct worker *from = of;
    struct worker *w = calloc(1, sizeof *w);
    if (w == NULL) {
        return NULL;
    }
    w->seed = from->seed * 2654435761u + 88172645463325252u + (uintptr_t)&w;
    w->depth = from->depth;
    w->deadline = now_ms() + 1 + below(w, w->depth ? 40 : below(w, 2) ? 300 : 10);
    self = w;
    pthread_setspecific(key, w);
    work(w);
    if (below(w, 2)) {
        end(w);
    }
    atomic_fetch_add(&done, 1);
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 4 && rcumalloc_present());
    double seconds = atof(argv[1]);
    threads_at_a_time = atoi(argv[2]);
    first_seed = strtoull(argv[3], NULL, 10);
    const char *defer = getenv("RCUMALLOC_DEFER");
    plain_waits = defer == NULL || strcmp(defer, "all") == 0 || strcmp(defer, "strict") == 0;
    /* Without it a new that finds no memory ends the process. */
    CHECK(dlopen("libstdc++.so.6", RTLD_NOW | RTLD_GLOBAL) != NULL);
    null_fd = open("/dev/null", O_WRONLY);
    alarm((unsigned)seconds + 60);
    for (int i = 0; i < POOLS; i++) {
        pools[i] = rcumalloc_pool_create("mixed", pool_size[i], pool_align[i], pool_flags[i]);
        CHECK(pools[i] != NULL);
    }
    static struct worker main_worker;
    struct worker *w = &main_worker;
    w->seed = first_seed * 2654435761u + 88172645463325252u;
    CHECK(pthread_key_create(&key, at_end) == 0);
    if (getenv("NO_SIGNALS") == NULL) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        CHECK(sigaction(SIGPROF, &action, NULL) == 0);
        struct itimerval timer = {{0, 2000}, {0, 2000}};
        CHECK(setitimer(ITIMER_PROF, &timer, NULL) == 0);
    }
    self = w;
    uint64_t last = now_ms() + (uint64_t)(seconds * 1000);
    if (threads_at_a_time == 0) {
        w->deadline = last;
        work(w);
    }
    while (now_ms() < last && threads_at_a_time > 0) {
        pthread_t thread[16];
        bool has[16];
        for (int i = 0; i < threads_at_a_time; i++) {
            next_random(&w->seed);
            has[i] = pthread_create(&thread[i], NULL, begin, w) == 0;
        }
        w->deadline = now_ms() + below(w, 40);
        work(w);
        for (int i = 0; i < threads_at_a_time; i++) {
            if (has[i]) {
                join(thread[i]);
            }
        }
    }
    end(w);
    for (int n = 0; n < HANDED; n++) {
        if (atomic_load(&handed[n].state) == 2) {
            check_block(&handed[n].block);
            free(handed[n].block.at);
        }
    }
    for (int n = 0; n < SHOWN; n++) {
        rcumalloc_free(atomic_exchange(&shown[n], NULL));
    }
    rcumalloc_barrier();
    CHECK(atomic_load(&queued) == atomic_load(&called));
    for (int i = 0; i < POOLS; i++) {
        CHECK(rcumalloc_pool_destroy(pools[i]));
    }
    struct rcumalloc_stats s = stats();
    CHECK(s.bad_calls == 0 && s.blocks_changed == 0);
    dprintf(1, "failed %lu calls %lu threads %lu live %lu\n", atomic_load(&failed), atomic_load(&called),
            atomic_load(&done), (unsigned long)s.live_bytes);
    return 0;
}
