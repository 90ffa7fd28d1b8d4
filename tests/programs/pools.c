/* Typed pools: what comes back when, what is refused, what threads and a fork leave. */
#include "victim.h"

enum { MANY = 3000, SIZE = 200 };
static void *object[MANY], *again[MANY];

static int by_address(const void *a, const void *b) {
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return x < y ? -1 : x > y;
}

static void take(rcumalloc_pool *pool, void **objects, int many) {
    for (int i = 0; i < many; i++) {
        objects[i] = rcumalloc_pool_alloc(pool);
        CHECK(objects[i] != NULL);
    }
}

static void give(rcumalloc_pool *pool, void **objects, int many) {
    for (int i = 0; i < many; i++) {
        rcumalloc_pool_free(pool, objects[i]);
    }
}

static int known(void) {
    int found = 0;
    for (int i = 0; i < MANY; i++) {
        found += bsearch(&again[i], object, MANY, sizeof *object, by_address) != NULL;
    }
    return found;
}

static void *nothing(void *unused) { return unused; }

/* Of objects freed in a section, how many come back in it; and what the pool has after ten rounds without. */
static void reuse(rcumalloc_pool *pool, const char *inside, const char *after) {
    take(pool, object, MANY);
    for (int i = 0; i < MANY; i++) {
        CHECK((uintptr_t)object[i] % 16 == 0 && *(uint64_t *)object[i] == 0);
        fill(object[i], SIZE, 1);
    }
    qsort(object, MANY, sizeof *object, by_address);
    for (int i = 1; i < MANY; i++) {
        CHECK((char *)object[i] - (char *)object[i - 1] >= SIZE);
    }
    rcumalloc_read_lock();
    give(pool, object, MANY);
    for (int i = 0; i < MANY; i++) {
        CHECK(filled(object[i], SIZE, 1)); /* nothing is written to a freed object */
    }
    take(pool, again, MANY);
    PRINT(inside, known());
    give(pool, again, MANY);
    rcumalloc_read_unlock();
    for (int i = 0; i < 10; i++) {
        take(pool, again, MANY);
        give(pool, again, MANY);
        rcumalloc_synchronize();
    }
    PRINT(after, stats().pool_bytes);
    rcumalloc_barrier();
    CHECK(rcumalloc_pool_destroy(pool));
    rcumalloc_barrier();
}

/* A pool gives its memory up while a section holds it: nobody else may write there before it ends. */
static void leave(unsigned flags, bool destroys, const char *name) {
    rcumalloc_pool *pool = rcumalloc_pool_create("leaving", SIZE, 0, flags);
    take(pool, object, MANY);
    for (int i = 0; i < MANY; i++) {
        fill(object[i], SIZE, 2);
    }
    rcumalloc_read_lock();
    give(pool, object, MANY);
    if (destroys) {
        CHECK(rcumalloc_pool_destroy(pool));
    }
    malloc_trim(0);
    void *block[200];
    for (int i = 0; i < 200; i++) {
        size_t size = i % 2 == 0 ? 65536 : 16000;
        block[i] = malloc(size);
        memset(block[i], 0xdd, size);
    }
    int damaged = 0;
    for (int i = 0; i < MANY; i++) {
        damaged += !filled(object[i], SIZE, 2);
    }
    rcumalloc_read_unlock();
    PRINT(name, damaged);
    for (int i = 0; i < 200; i++) {
        free(block[i]);
    }
    if (!destroys) {
        CHECK(rcumalloc_pool_destroy(pool));
    }
    rcumalloc_barrier();
}

static rcumalloc_pool *shared[2];
/* How often each thread does something, and goes on until it is told to stop. */
static int turns = 40000;
static bool stop;

static void *churn(void *seed) {
    uint64_t random = (uintptr_t)seed * 2654435761u + 7;
    struct {
        void *at;
        int of;
    } held[64] = {0};
    for (int i = 0; i < turns || !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
        unsigned at = next_random(&random) % 64;
        if (held[at].at == NULL) {
            held[at].of = (int)(next_random(&random) % 2);
            held[at].at = rcumalloc_pool_alloc(shared[held[at].of]);
            CHECK(held[at].at != NULL);
            fill(held[at].at, 48, at);
        } else {
            CHECK(filled(held[at].at, 48, at));
            rcumalloc_pool_free(shared[held[at].of], held[at].at);
            held[at].at = NULL;
        }
        if (i % 10000 == 0) {
            malloc_trim(0);
        }
    }
    for (int at = 0; at < 64; at++) {
        rcumalloc_pool_free(shared[held[at].of], held[at].at);
    }
    return NULL;
}

static void threads(int forks) {
    shared[0] = rcumalloc_pool_create("plain", 48, 0, 0);
    shared[1] = rcumalloc_pool_create("typed", 48, 64, RCUMALLOC_POOL_TYPESAFE);
    pthread_t thread[3];
    for (uintptr_t i = 0; i < 3; i++) {
        thread[i] = start(churn, (void *)(i + 1));
    }
    for (int i = 0; i < forks; i++) {
        sleep_ms(1);
        pid_t child = i % 2 == 0 ? fork() : (pid_t)_Fork();
        if (child == 0) {
            /* What other threads held there stays with nobody: these pools cannot be destroyed. */
            turns = 300, stop = true;
            churn((void *)9);
            rcumalloc_pool *own = rcumalloc_pool_create("child's", 5000, 4096, 0);
            void *its = rcumalloc_pool_alloc(own);
            CHECK(its != NULL && (uintptr_t)its % 4096 == 0);
            rcumalloc_pool_free(own, its);
            CHECK(rcumalloc_pool_destroy(own));
            _exit(0);
        }
        reap(child);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (int i = 0; i < 3; i++) {
        join(thread[i]);
    }
    PRINT("live", stats().pool_live_bytes);
    CHECK(rcumalloc_pool_destroy(shared[0]) && rcumalloc_pool_destroy(shared[1]));
}

static void refuse(const char *what) {
    rcumalloc_pool *pool = rcumalloc_pool_create("one", 100, 0, 0);
    rcumalloc_pool *other = rcumalloc_pool_create("two", 64, 0, 0);
    char *object = rcumalloc_pool_alloc(pool);
    if (strcmp(what, "free") == 0) {
        free(object);
    } else if (strcmp(what, "size") == 0) {
        malloc_usable_size(object + 3);
    } else if (strcmp(what, "realloc") == 0) {
        CHECK(realloc(object, 10) == NULL);
    } else if (strcmp(what, "other") == 0) {
        rcumalloc_pool_free(other, object);
    } else if (strcmp(what, "block") == 0) {
        rcumalloc_pool_free(pool, malloc(100));
    } else if (strcmp(what, "middle") == 0) {
        rcumalloc_pool_free(pool, object + 8);
    } else if (strcmp(what, "stack") == 0) {
        rcumalloc_pool_free(pool, &pool);
    } else if (strcmp(what, "twice") == 0) {
        rcumalloc_pool_free(pool, object);
        rcumalloc_pool_free(pool, object);
    } else if (strcmp(what, "live") == 0) {
        CHECK(!rcumalloc_pool_destroy(pool));
        CHECK(rcumalloc_pool_alloc(pool) != NULL);
    } else if (strcmp(what, "gone") == 0) {
        rcumalloc_pool_free(pool, object);
        CHECK(rcumalloc_pool_destroy(pool));
        CHECK(rcumalloc_pool_alloc(pool) == NULL);
    } else if (strcmp(what, "handle") == 0) {
        CHECK(rcumalloc_pool_alloc((rcumalloc_pool *)object) == NULL);
    }
}

static void owner(void) {
    struct rcumalloc_block block;
    rcumalloc_pool *pool = rcumalloc_pool_create("one", 100, 0, 0);
    char *object = rcumalloc_pool_alloc(pool);
    CHECK(rcumalloc_owner(object + 50, &block, sizeof block));
    CHECK(block.start == object && block.size == 100 && block.state == 1);
    CHECK(block.page_kind == RCUMALLOC_PAGE_POOL);
    rcumalloc_pool_free(pool, object);
    CHECK(rcumalloc_owner(object, &block, sizeof block) && block.state == 2);
    errno = 0;
    CHECK(rcumalloc_pool_create("bad", 0, 0, 0) == NULL && errno == EINVAL);
    CHECK(rcumalloc_pool_create("bad", 8, 3, 0) == NULL && rcumalloc_pool_create("bad", 8, 8192, 0) == NULL);
    CHECK(rcumalloc_pool_create("bad", 2 << 20, 0, 0) == NULL);
    CHECK(rcumalloc_pool_create("bad", 8, 0, 4) == NULL);
    CHECK(rcumalloc_pool_destroy(pool));
    for (size_t size = 1; size <= 1 << 20; size += size / 3 + 1) {
        for (size_t align = 8; align <= 4096; align *= 8) {
            pool = rcumalloc_pool_create("longer than what is kept of a name", size, align, size % 2);
            void *some[600];
            int many = size < 2000 ? 600 : 5;
            for (int i = 0; i < many; i++) {
                some[i] = rcumalloc_pool_alloc(pool);
                CHECK(some[i] != NULL && (uintptr_t)some[i] % align == 0);
                CHECK(*(char *)some[i] == 0 && ((char *)some[i])[size - 1] == 0);
                fill(some[i], size, (unsigned)i);
            }
            for (int i = 0; i < many; i++) {
                CHECK(filled(some[i], size, (unsigned)i));
                rcumalloc_pool_free(pool, some[i]);
            }
            CHECK(rcumalloc_pool_destroy(pool));
        }
    }
}

static void speed(void) {
    static const char *const names[] = {"plain_solo_ns", "typesafe_solo_ns", "plain_ns", "typesafe_ns"};
    for (unsigned turn = 0; turn < 4; turn++) {
        rcumalloc_pool *pool = rcumalloc_pool_create("fast", 64, 0, turn % 2);
        if (turn == 2) {
            join(start(nothing, NULL));
        }
        struct timespec from, to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        for (int i = 0; i < 2000000; i++) {
            rcumalloc_pool_free(pool, rcumalloc_pool_alloc(pool));
        }
        clock_gettime(CLOCK_MONOTONIC, &to);
        PRINT(names[turn], ((to.tv_sec - from.tv_sec) * 1000000000 + to.tv_nsec - from.tv_nsec) / 2000000);
    }
}

int main(int argc, char **argv) {
    CHECK(rcumalloc_present() && argc > 1);
    if (strcmp(argv[1], "reuse") == 0) {
        join(start(nothing, NULL));
        reuse(rcumalloc_pool_create("plain", SIZE, 0, 0), "plain", "plain_bytes");
        reuse(rcumalloc_pool_create("typed", SIZE, 0, RCUMALLOC_POOL_TYPESAFE), "typed", "typed_bytes");
        leave(0, false, "plain_trimmed");
        leave(0, true, "plain_destroyed");
        leave(RCUMALLOC_POOL_TYPESAFE, false, "typed_trimmed");
        leave(RCUMALLOC_POOL_TYPESAFE, true, "typed_destroyed");
        PRINT("deferred", stats().deferred_bytes);
    } else if (strcmp(argv[1], "threads") == 0) {
        threads(0);
        rcumalloc_barrier();
        malloc_trim(0);
        PRINT("bytes", stats().pool_bytes);
        PRINT("waiting", stats().pool_waiting_bytes);
        PRINT("deferred", stats().deferred_bytes);
    } else if (strcmp(argv[1], "forks") == 0) {
        threads(200);
    } else if (strcmp(argv[1], "owner") == 0) {
        owner();
    } else if (strcmp(argv[1], "speed") == 0) {
        speed();
    } else {
        refuse(argv[1]);
    }
    return 0;
}
