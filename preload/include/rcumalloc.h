/* rcumalloc.h: read-side sections, grace periods and explicit frees for programs that run under
 * librcumalloc.so. Needs no other header than the three below; C99, C11, C23 and C++.
 *
 * The functions are declared weak: one binary runs with and without the library. Ask
 * rcumalloc_present() once. Without the library a call of any other function here is a call of
 * address 0 and ends the process at once, on purpose: a free() in place of rcumalloc_free()
 * would compile, run, and break the promise that readers rely on.
 *
 * What is promised:
 *  - A block that a thread frees (free, realloc that moves, delete, rcumalloc_free) is not reused,
 *    unmapped or written by the allocator until every section (rcumalloc_read_lock ... unlock)
 *    that had begun before the free has ended. Nothing overrides this but rcumalloc_free_now.
 *  - A thread that opens no section is also waited for, as long as the backlog of freed memory is
 *    within its budget and age limit. That is a quarantine one grace period long, not a guarantee.
 *
 * Unless said otherwise a function may be called from any thread at any time, does not block,
 * leaves errno alone and is not async-signal-safe.
 */
#ifndef RCUMALLOC_H
#define RCUMALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RCUMALLOC_WEAK __attribute__((weak))

/* The library's version, such as "0.1.0". */
RCUMALLOC_WEAK const char *rcumalloc_version(void);

/* Whether the library is there. */
static inline bool rcumalloc_present(void) { return &rcumalloc_version != 0; }

/* ---- readers ------------------------------------------------------------------------------ */

/* Opens a read-side section of the calling thread. Sections nest. No fence, no atomic
 * read-modify-write. Async-signal-safe, also as the thread's first call of the library and in a
 * handler that interrupted malloc. A section that is missing shows at once with RCUMALLOC_STRESS=1 in
 * the environment. */
RCUMALLOC_WEAK void rcumalloc_read_lock(void);

/* Ends the innermost section. Async-signal-safe. One too many ends the process with a line. */
RCUMALLOC_WEAK void rcumalloc_read_unlock(void);

/* Whether the calling thread is in a section. Async-signal-safe. */
RCUMALLOC_WEAK bool rcumalloc_read_held(void);

/* The same sections without a call and without the search for the calling thread: six instructions a pair.
 * For code that opens a section every few nanoseconds and has a place of its own for each thread.
 *
 * Ask once a thread for its reader: the first time takes a microsecond, and where there is no memory for
 * it the process ends with a line, as in rcumalloc_read_lock. It is valid until the thread ends, in the
 * child of its fork too, but not in destructors that run at the thread's end, and in no other thread:
 * there the process ends with a line, unless the place has a new thread already, whose sections it would
 * upset. A signal handler that switches fibres must not leave a section open across the switch. Both kinds
 * of sections nest in each other. Async-signal-safe. GCC 6 or Clang. */
typedef struct rcumalloc_reader {
    int32_t nest, turn; /* the library's: for the two functions below only */
} rcumalloc_reader;

RCUMALLOC_WEAK rcumalloc_reader *rcumalloc_reader_self(void);

/* What the two functions below call rarely; for them only. */
RCUMALLOC_WEAK void rcumalloc_reader_lock_rare(rcumalloc_reader *self);
RCUMALLOC_WEAK void rcumalloc_reader_unlock_rare(rcumalloc_reader *self, bool outermost);

#if defined(__x86_64__) && defined(__GCC_ASM_FLAG_OUTPUTS__)
static inline void rcumalloc_reader_lock(rcumalloc_reader *self) {
    /* One instruction on memory, so that a signal handler's section in between leaves it as it was; the
     * clobber keeps the section's accesses behind it. */
    bool rare;
    __asm__ __volatile__("incl %0" : "+m"(self->nest), "=@ccle"(rare) : : "memory");
    if (__builtin_expect(rare, 0)) {
        rcumalloc_reader_lock_rare(self);
    }
}

static inline void rcumalloc_reader_unlock(rcumalloc_reader *self) {
    bool inner, rare;
    __asm__ __volatile__("decl %0" : "+m"(self->nest), "=@ccne"(inner) : : "memory");
    if (__builtin_expect(inner, 0)) {
        rcumalloc_reader_unlock_rare(self, false);
        return;
    }
    __asm__ __volatile__("incl %0" : "+m"(self->turn), "=@cce"(rare) : : "memory");
    if (__builtin_expect(rare, 0)) {
        rcumalloc_reader_unlock_rare(self, true);
    }
}
#elif defined(__aarch64__) && defined(__ATOMIC_RELEASE)
static inline void rcumalloc_reader_lock(rcumalloc_reader *self) {
    /* A handler's section in between leaves the word as it was. That an outermost section is seen is what the
     * rare case does. */
    int32_t nest = __atomic_load_n(&self->nest, __ATOMIC_RELAXED) + 1;
    __atomic_store_n(&self->nest, nest, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (nest <= 0) {
        rcumalloc_reader_lock_rare(self);
    }
}

static inline void rcumalloc_reader_unlock(rcumalloc_reader *self) {
    int32_t nest = __atomic_load_n(&self->nest, __ATOMIC_RELAXED) - 1, turn;
    __atomic_store_n(&self->nest, nest, __ATOMIC_RELEASE);
    if (nest != 0) {
        rcumalloc_reader_unlock_rare(self, false);
        return;
    }
    turn = __atomic_load_n(&self->turn, __ATOMIC_RELAXED) + 1;
    __atomic_store_n(&self->turn, turn, __ATOMIC_RELEASE);
    if (turn == 0) {
        rcumalloc_reader_unlock_rare(self, true);
    }
}
#endif

/* Announces that the thread holds no protected reference. Every slow path of the allocator does it
 * too. No effect inside a section. */
RCUMALLOC_WEAK void rcumalloc_quiescent_state(void);

/* Before blocking for long: grace periods do not wait for the thread until it is online again. A
 * section opened meanwhile is safe. Not inside a section. */
RCUMALLOC_WEAK void rcumalloc_thread_offline(void);
RCUMALLOC_WEAK void rcumalloc_thread_online(void);

/* ---- grace periods ------------------------------------------------------------------------ */

/* A grace period to ask for. Compare by rcumalloc_poll only. */
typedef struct { uint64_t value; } rcumalloc_cookie;

/* Most distinct cookies that can be unfinished at once: waiting batches fit an array. */
#define RCUMALLOC_ACTIVE_COOKIES 2

/* A cookie for what has been unlinked so far, and the promise that its period will start. */
RCUMALLOC_WEAK rcumalloc_cookie rcumalloc_start_poll(void);

/* Whether the cookie's grace period has passed. */
RCUMALLOC_WEAK bool rcumalloc_poll(rcumalloc_cookie cookie);

/* Wait until it has; expedited: by asking every thread now instead of waiting for it. They block,
 * and inside a section of the calling thread they end the process with a line. */
RCUMALLOC_WEAK void rcumalloc_cond_synchronize(rcumalloc_cookie cookie);
RCUMALLOC_WEAK void rcumalloc_cond_synchronize_expedited(rcumalloc_cookie cookie);
RCUMALLOC_WEAK void rcumalloc_synchronize(void);
RCUMALLOC_WEAK void rcumalloc_synchronize_expedited(void);

/* ---- work that waits: the kernel's call_rcu ------------------------------------------------- */

/* Has fn(p) called after a grace period that begins now or later: what had been unlinked before the call
 * is seen by no section any more. False: no memory for the 32 bytes that it waits in, and nothing will be
 * called.
 *
 * fn runs in a thread of the library's, one at a time in the order of the calls, outside every lock and
 * every section, with signals blocked. It may do whatever a thread may: allocate, free, take locks, open
 * sections (and close them), queue more. It must return, by no exception and no longjmp, and must not call
 * rcumalloc_barrier. What it blocks, it blocks for all.
 *
 * Memory is bounded: while more than 65536 wait, a call outside sections waits for 10 ms, or until some
 * have run. What is still waiting when the process exits is not called; call rcumalloc_barrier first. In
 * the child of a fork it is called once somebody queues or calls rcumalloc_barrier there. Not
 * async-signal-safe. */
RCUMALLOC_WEAK bool rcumalloc_call(void *p, void (*fn)(void *p));

/* The same without memory of the library's, and so it cannot fail: head lies in the caller's object, and
 * is the library's until fn is called with it. If no thread can be made, what is queued waits until one
 * can or for rcumalloc_barrier, which then runs it itself. */
typedef struct rcumalloc_head {
    struct rcumalloc_head *next;
    void (*fn)(struct rcumalloc_head *head);
} rcumalloc_head;

RCUMALLOC_WEAK void rcumalloc_call_head(rcumalloc_head *head, void (*fn)(rcumalloc_head *head));

/* Waits until every function queued before the call by rcumalloc_call or rcumalloc_call_head has run, and
 * then until every block freed before the call may be reused. Those that other threads hold in magazines
 * they have not filled yet become available when those threads come to their next turn or end. Blocks; not
 * inside a section. */
RCUMALLOC_WEAK void rcumalloc_barrier(void);

/* ---- frees: plain free() already defers; these say so, or say otherwise ------------------- */

/* Deferred whatever RCUMALLOC_DEFER says: the kernel's kvfree_rcu(p). Null is nothing. */
RCUMALLOC_WEAK void rcumalloc_free(void *p);

/* rcumalloc_free of each of n pointers. */
RCUMALLOC_WEAK void rcumalloc_free_bulk(void **p, size_t n);

/* Reusable at once: the caller vouches that no reader can see the block. */
RCUMALLOC_WEAK void rcumalloc_free_now(void *p);

/* ---- blocks in signal handlers -------------------------------------------------------------- */

/* A block of at least size bytes, as malloc's, from those that the calling thread has put aside; NULL if
 * there is none. Neither locks, waits, asks for memory nor touches errno. Async-signal-safe, in a handler
 * that interrupted malloc, free or one of these two, too. Free it as any other, outside of handlers. */
RCUMALLOC_WEAK void *rcumalloc_alloc_nowait(size_t size);

/* Sees to it that the calling thread has n blocks aside for requests of size bytes, up to 16 KiB and 65535
 * blocks of each size class, and says how many it has: fewer if there is no memory. They count as the
 * program's, and go back when the thread ends. Not async-signal-safe. */
RCUMALLOC_WEAK size_t rcumalloc_prefill(size_t size, size_t n);

/* ---- typed pools -------------------------------------------------------------------------- */

typedef struct rcumalloc_pool rcumalloc_pool;

/* A freed object may be handed out again at once, by this pool alone: the kernel's SLAB_TYPESAFE_BY_RCU.
 * A reader that has found an object may find another one of the same type there; it asks the object itself,
 * by a key or by a reference that it takes, whether it is the one it looked for. What it looks at stays an
 * object of the pool, alive or freed, until its section ends. Without the flag an object waits, as blocks
 * do. */
#define RCUMALLOC_POOL_TYPESAFE 1u

/* A pool of objects of so many bytes, up to 1 MiB, aligned to align, a power of two up to 4096, or 0: as
 * malloc's. Of the name 31 bytes are kept, for messages. NULL: errno is EINVAL or ENOMEM. */
RCUMALLOC_WEAK rcumalloc_pool *rcumalloc_pool_create(const char *name, size_t size, size_t align,
                                                     unsigned flags);

/* An object, or NULL with ENOMEM. It is zeros the first time its memory is handed out, and as it was freed
 * after that: the library writes nothing into objects. Any thread; not in a signal handler, nor are the
 * other calls. */
RCUMALLOC_WEAK void *rcumalloc_pool_alloc(rcumalloc_pool *pool);

/* Gives an object back to the pool it came from. Null is nothing. free() of an object is refused, and so is
 * what is no object of this pool or was freed before. */
RCUMALLOC_WEAK void rcumalloc_pool_free(rcumalloc_pool *pool, void *object);

/* Ends the pool; its memory goes back after a grace period, for which the call does not wait. It is refused,
 * as a bad call that returns false, while objects are with the program. */
RCUMALLOC_WEAK bool rcumalloc_pool_destroy(rcumalloc_pool *pool);

/* ---- options while the program runs --------------------------------------------------------- */

/* Sets an option by the name and with a value of the environment: RCUMALLOC_BUDGET, RCUMALLOC_GP_AGE_MS,
 * RCUMALLOC_BACKOFF_MS, RCUMALLOC_STALL_MS, RCUMALLOC_ON_ERROR, RCUMALLOC_WATCH, and RCUMALLOC_LIMIT and
 * RCUMALLOC_HARD_LIMIT in bytes. False: no such option, one that is for the start alone, or a bad value;
 * nothing has changed. It steers what happens from now on. */
RCUMALLOC_WEAK bool rcumalloc_set(const char *name, const char *value);

/* Writes the value of an option as rcumalloc_set would take it, cut to size - 1 bytes and a zero byte, and
 * says how long it is, as snprintf does; 0: no such option, or it has no value. */
RCUMALLOC_WEAK size_t rcumalloc_get(const char *name, char *value, size_t size);

/* ---- pressure and inspection -------------------------------------------------------------- */

/* Bytes that could be given back to the system, as far as counters tell; gives about so many bytes back,
 * the cheapest caches first, and says how many bytes less are resident. Afterwards caches refill
 * a page at a time until RCUMALLOC_BACKOFF_MS have passed without another. Not async-signal-safe. */
RCUMALLOC_WEAK size_t rcumalloc_shrink_count(void);
RCUMALLOC_WEAK size_t rcumalloc_shrink_scan(size_t bytes);

/* As if the kernel had said so: 0 there is none, 1 some (half of the above goes), 2 full (all of it). */
RCUMALLOC_WEAK void rcumalloc_pressure(int level);

/* Why memory was given back. */
enum {
    RCUMALLOC_REASON_TRIM,       /* malloc_trim */
    RCUMALLOC_REASON_API,        /* rcumalloc_shrink_scan */
    RCUMALLOC_REASON_PRESSURE,   /* rcumalloc_pressure */
    RCUMALLOC_REASON_LIMIT,      /* RCUMALLOC_LIMIT */
    RCUMALLOC_REASON_PSI,        /* the kernel's pressure stall information */
    RCUMALLOC_REASON_CGROUP,     /* the control group's events or pressure level */
    RCUMALLOC_REASON_SIGNAL,     /* the configured signal */
    RCUMALLOC_REASON_MAP_FAILED, /* a mapping could not be had, or RCUMALLOC_HARD_LIMIT was in the way */
    RCUMALLOC_REASON_AGE,        /* not used for RCUMALLOC_DECAY_MS */
    RCUMALLOC_REASONS
};

/* Why a grace period was wanted at once. */
enum {
    RCUMALLOC_CAUSE_QUEUE,    /* a thread's next round was due several times */
    RCUMALLOC_CAUSE_AGE,      /* something had waited longer than the age limit */
    RCUMALLOC_CAUSE_BUDGET,   /* more waited than the budget allows */
    RCUMALLOC_CAUSE_PRESSURE, /* memory was to be given back */
    RCUMALLOC_CAUSES
};

/* What free comes to where there is no empty magazine at hand, one after the other. */
enum {
    RCUMALLOC_STEP_OTHER_KIND, /* a spare magazine of another size */
    RCUMALLOC_STEP_STORE,      /* any empty magazine of the process */
    RCUMALLOC_STEP_RESERVE,    /* a page kept for this */
    RCUMALLOC_STEP_ELAPSED,    /* the magazines of a group that has waited long enough */
    RCUMALLOC_STEP_OWN_BLOCKS, /* the full magazine itself, emptied into the slabs */
    RCUMALLOC_STEP_SLAB,       /* a bit in the slab */
    RCUMALLOC_STEPS
};

/* Counters. Bytes unless the name says otherwise. New fields are added at the end. */
struct rcumalloc_stats {
    uint64_t size;                /* of the structure, as the library knows it */
    uint64_t window_bytes;        /* address space of the heap that is mapped now */
    uint64_t mapped_bytes;        /* handed out by the zone: slabs, large blocks, metadata */
    uint64_t live_bytes;          /* blocks with the program */
    uint64_t live_large_bytes;    /* large ones among them */
    uint64_t dirty_bytes;         /* free pages that still hold memory */
    uint64_t purged_bytes;        /* given back to the system so far */
    uint64_t meta_bytes;
    uint64_t deferred_bytes;      /* freed and not taken up again yet */
    uint64_t deferred_peak_bytes;
    uint64_t budget_bytes;        /* deferred bytes past which periods are expedited */
    uint64_t blocks_loaded;       /* blocks; those recycled inside a magazine are not counted */
    uint64_t blocks_retired;      /* blocks */
    uint64_t large_allocated;     /* blocks */
    uint64_t periods_started;     /* grace periods */
    uint64_t periods_completed;
    uint64_t periods_expedited;
    uint64_t threads_parked;      /* times */
    uint64_t membarriers;         /* system calls */
    uint64_t threads;
    uint64_t threads_peak;
    uint64_t bad_calls;           /* refused and reported */
    uint64_t period_p50_ns;       /* grace-period latency */
    uint64_t period_p99_ns;
    uint64_t concurrent;          /* 1 once the process has or had more than one thread */
    uint64_t reclaimable_bytes;   /* as rcumalloc_shrink_count */
    uint64_t refills;             /* fetches of a page cache, or of a magazine from the slabs */
    uint64_t refills_suppressed;  /* of those, made small because a scan was not long ago */
    uint64_t last_scan_ns;        /* CLOCK_MONOTONIC when the last scan began; 0: none */
    uint64_t last_scan_took_ns;
    uint64_t last_scan_reason;    /* an RCUMALLOC_REASON_ */
    uint64_t last_scan_bytes;
    uint64_t scans[RCUMALLOC_REASONS];         /* by reason; for AGE the ticks that gave something */
    uint64_t scanned_bytes[RCUMALLOC_REASONS]; /* given back, by reason */
    uint64_t call_blocks_most;    /* blocks that one call gave back of what others had left, at the
                                     most; a large one counts for four */
    uint64_t call_purged_most;    /* bytes it gave to the system, beyond twice what it freed */
    uint64_t call_purges_most;    /* stretches of pages it looked for to do so */
    uint64_t blocks_bytes;        /* slabs and large blocks: live_bytes and the next three together */
    uint64_t cached_bytes;        /* may be handed out at once: with threads and in the depots */
    uint64_t waiting_bytes;       /* freed, and may not be handed out yet */
    uint64_t in_slabs_bytes;      /* never given out or back, and what no block has of a slab */
    uint64_t held_filling_bytes;  /* what holds those that wait, adding up to waiting_bytes: the
                                     magazines that free pushes to, */
    uint64_t held_open_bytes;     /* threads' groups without a cookie yet, */
    uint64_t held_shelf_bytes;    /* their groups with one, */
    uint64_t held_shared_bytes;   /* the queue for all threads, */
    uint64_t held_slab_bytes;     /* the slabs' own bitmaps, */
    uint64_t held_large_bytes;    /* and large blocks, wherever */
    uint64_t periods_parked;      /* of those expedited, ended by parking alone */
    uint64_t hurried[RCUMALLOC_CAUSES];         /* times somebody hurried, by cause */
    uint64_t hurried_periods[RCUMALLOC_CAUSES]; /* periods that ended so; the rest of those
                                                   expedited were asked for by the program */
    uint64_t periods_timed;       /* periods whose latency was taken, one in eight */
    uint64_t periods_timed_ns;    /* their latencies together */
    uint64_t batches_leaked;      /* given up rather than reused too early */
    uint64_t free_steps[RCUMALLOC_STEPS]; /* what free came to without an empty magazine at hand */
    uint64_t reserve_bytes;       /* pages kept for free, */
    uint64_t reserve_target_bytes; /* and how many there should be */
    uint64_t slab_refills;        /* magazines filled from slabs */
    uint64_t slab_flushes;        /* magazines flushed to slabs */
    uint64_t stalls;              /* stalled readers reported */
    uint64_t caches_vacant;       /* caches without a thread that wait for one */
    uint64_t pool_bytes;          /* slabs of typed pools, */
    uint64_t pool_live_bytes;     /* of their objects those with the program, */
    uint64_t pool_waiting_bytes;  /* and those that wait; what is behind a cookie is in deferred_bytes, too */
    uint64_t blocks_checked;      /* RCUMALLOC_LEDGER: freed blocks looked at again before their reuse, */
    uint64_t blocks_changed;      /* and those of them that were written to meanwhile */
    uint64_t trapped_bytes;       /* RCUMALLOC_TRAP: of trapped blocks that the program has; in none of those
                                     above */
};

/* Fills as much of *stats as size_of_struct says; false for a null pointer. As the functions below it
 * takes no lock and is async-signal-safe; while threads run, figures that belong together may be a
 * magazine apart. */
RCUMALLOC_WEAK bool rcumalloc_stats(struct rcumalloc_stats *stats, size_t size_of_struct);

/* One size class. Blocks unless the name says otherwise; live + cached + deferred + in_slabs is what its
 * slabs hold. */
struct rcumalloc_class_stats {
    uint64_t size;        /* bytes of the structure, as the library knows it */
    uint64_t block_bytes;
    uint64_t slabs;
    uint64_t live;        /* with the program */
    uint64_t cached;      /* may be handed out at once: with threads and in the depot */
    uint64_t deferred;    /* freed, and may not be handed out yet */
    uint64_t in_slabs;    /* never given out, or back */
    uint64_t taken;       /* ever taken from slabs, */
    uint64_t refills;     /* in so many magazines */
    uint64_t returned;    /* ever given back to slabs, */
    uint64_t flushes;     /* in so many magazines */
};

/* The same for size class number index, from 0; false past the last one. */
RCUMALLOC_WEAK bool rcumalloc_class_stats(unsigned index, struct rcumalloc_class_stats *stats,
                                          size_t size_of_struct);

/* The pages of the heap by what they are, in pages of 4 KiB. The sum of the kinds is what is mapped. */
struct rcumalloc_page_stats {
    uint64_t size;        /* bytes of the structure, as the library knows it */
    uint64_t slab;        /* cut into small blocks */
    uint64_t large_live;  /* of large blocks with the program */
    uint64_t large_freed; /* of large blocks that wait or may be handed out */
    uint64_t magazine;    /* pages of pointers */
    uint64_t page_cache;  /* in threads' stocks */
    uint64_t reserve;     /* kept for free */
    uint64_t meta;        /* descriptors */
    uint64_t free;
    uint64_t mapped;      /* all of them, as the page allocator knows */
    uint64_t pool;        /* of typed pools */
};

/* The same for pages. Walks the heap. */
RCUMALLOC_WEAK bool rcumalloc_page_stats(struct rcumalloc_page_stats *stats, size_t size_of_struct);

/* Writes all of it to a descriptor as "text", "json" (the schema is rcumalloc-stats.schema.json) or
 * "prometheus". False for another format, or if it could not all be written. */
RCUMALLOC_WEAK bool rcumalloc_stats_write(int fd, const char *format);

/* Who holds grace periods up: for each thread and each place where a read-side section of its began, how
 * long it was seen to, and the deferred bytes meanwhile times seconds. "text", "json", or "folded" for a
 * flame graph weighted by byte-seconds. False as above. A thread says where its first section
 * begins, and, once it was found stalling, where the next ones do: until then the place is 0.
 * Async-signal-safe. */
RCUMALLOC_WEAK bool rcumalloc_stalls_write(int fd, const char *format);

/* A profile: a sample of the blocks that are allocated from now on, and of where, with `rate` bytes from one
 * to the next on average; 0: 512 KiB. What an earlier profile knows is forgotten. False: one is under way, or
 * there is no memory for its tables. The process defers its frees from here on, as if it had several threads.
 * Not in a signal handler. */
RCUMALLOC_WEAK bool rcumalloc_profile_start(size_t rate);

/* Samples no further blocks. What becomes of those that were sampled is still known. False: no profile is
 * under way. Async-signal-safe, as the next. */
RCUMALLOC_WEAK bool rcumalloc_profile_stop(void);

/* Writes what is known now, for `rcumalloc-bench profile`: stacks, with what was allocated from each, and the
 * sampled blocks that are live, or freed and waiting for a grace period. False: there was no profile, or it
 * could not all be written. */
RCUMALLOC_WEAK bool rcumalloc_profile_write(int fd);

/* What a page of the heap is. */
enum {
    RCUMALLOC_PAGE_UNKNOWN,    /* never used, inside of a large block, or somebody else's */
    RCUMALLOC_PAGE_FREE,
    RCUMALLOC_PAGE_CACHE,      /* in a thread's stock */
    RCUMALLOC_PAGE_SLAB,       /* cut into small blocks */
    RCUMALLOC_PAGE_LARGE,      /* of a large block */
    RCUMALLOC_PAGE_MAGAZINE,   /* of pointers */
    RCUMALLOC_PAGE_META,       /* of descriptors */
    RCUMALLOC_PAGE_RESERVE,    /* kept for free */
    RCUMALLOC_PAGE_POOL        /* of a typed pool */
};

/* Where a freed block is on its way back to malloc. */
enum {
    RCUMALLOC_AT_UNKNOWN, /* not freed, in what another thread is filling, or somebody has it in hand */
    RCUMALLOC_AT_OPEN,    /* with this thread, which freed it, behind no cookie yet */
    RCUMALLOC_AT_WAITS,   /* behind a cookie */
    RCUMALLOC_AT_READY,   /* its grace period has passed: malloc may hand it out any time */
    RCUMALLOC_AT_SLAB     /* the same; it is in no thread's hands, and its memory may be gone */
};

/* What an address is. New fields are added at the end. */
struct rcumalloc_block {
    const void *start;   /* of the block that holds the address; null: no block does */
    size_t size;         /* its usable bytes */
    int state;           /* 0 never given out, 1 with the program, 2 freed. A block just freed reads
                            as 1 until its magazine is turned. */
    int large;           /* 1: a block of its own pages */
    int page_kind;       /* of the page, an RCUMALLOC_PAGE_; -1 outside of the heap */
    int class_index;     /* as for rcumalloc_class_stats; -1: a large block */
    int at;              /* of a freed block, an RCUMALLOC_AT_ */
    uint32_t thread;     /* the thread that has it there; 0: none, or not known */
    int64_t age_ms;      /* for so long it has been behind its cookie; -1: not known, or behind none */
    const void *mapping; /* the range of addresses of the heap that it lies in; null outside */
    size_t mapping_bytes;
};

/* Fills as much of *block as size_of_struct says, also where no block holds the address: then it is false.
 * Any address, in the middle of a block, too, for which it takes no longer; block may be null. Any thread,
 * any time, in a handler of SIGSEGV, too. Only where a freed block is, is searched for: among all that
 * wait. */
RCUMALLOC_WEAK bool rcumalloc_owner(const void *p, struct rcumalloc_block *block, size_t size_of_struct);

/* What a block is to the section that asks. */
enum {
    RCUMALLOC_CHECK_UNKNOWN,     /* not of this heap, or never given out */
    RCUMALLOC_CHECK_LIVE,        /* it is the program's, perhaps once more */
    RCUMALLOC_CHECK_FREED,       /* freed, and the section may have begun before: using it is right */
    RCUMALLOC_CHECK_FREED_BEFORE /* freed before the section began, or to be reused at once, or the thread is
                                    in no section: using it is a bug */
};

/* Says that of any address, in the middle of a block, too, with regard to the calling thread's outermost
 * section. FREED_BEFORE is proven, by grace periods that need not wait for the section; FREED means that
 * there is no such proof, which may take a period to come. Any thread, any time, in a handler of SIGSEGV,
 * too; searches as rcumalloc_owner does. */
RCUMALLOC_WEAK int rcumalloc_check(const void *p);

#ifdef __cplusplus
}
#endif

#endif
