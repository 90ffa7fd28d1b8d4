/* `figures sums`: after each of some thousand calls the figures add up, solo and with another thread at
 * rest. `figures forms DIR`: writes the figures in each of their forms into DIR, of a heap with something
 * of everything. `figures handler`: the same from a signal handler that interrupts malloc and free
 * wherever they are. */
#include "victim.h"
#include <sys/time.h>

enum { HELD = 500 };
static void *held[HELD];

static bool is_large(void *block) {
    struct rcumalloc_block b;
    CHECK(rcumalloc_owner(block, &b, sizeof b) && b.start == block);
    return b.large != 0;
}

static void one_call(uint64_t *seed) {
    void **place = &held[next_random(seed) % HELD];
    size_t most = next_random(seed) % 16 == 0 ? 1000000 : 3000;
    size_t size = next_random(seed) % most + 1;
    if (*place == NULL) {
        *place = malloc(size);
        CHECK(*place != NULL);
    } else if (next_random(seed) % 8 == 0) {
        *place = realloc(*place, size);
        CHECK(*place != NULL);
    } else {
        (next_random(seed) % 2 == 0 ? rcumalloc_free : free)(*place);
        *place = NULL;
    }
}

/* ---- sums ---- */

/* Objects of two pools, with what each takes, and how many we have. */
static rcumalloc_pool *pool[2];
static const size_t object_bytes[2] = {112, 3008};
static void *object[2][HELD];
static uint64_t objects[2];

static void make_pools(void) {
    pool[0] = rcumalloc_pool_create("small", 100, 0, 0);
    pool[1] = rcumalloc_pool_create("typesafe", 3000, 64, RCUMALLOC_POOL_TYPESAFE);
    CHECK(pool[0] != NULL && pool[1] != NULL);
}

static void one_pool_call(uint64_t *seed) {
    int of = (int)(next_random(seed) % 2);
    void **place = &object[of][next_random(seed) % HELD];
    if (*place == NULL) {
        *place = rcumalloc_pool_alloc(pool[of]);
        CHECK(*place != NULL);
        objects[of]++;
    } else {
        rcumalloc_pool_free(pool[of], *place);
        *place = NULL;
        objects[of]--;
    }
}

static void drop_pools(void) {
    for (int of = 0; of < 2; of++) {
        for (int at = 0; at < HELD; at++) {
            rcumalloc_pool_free(pool[of], object[of][at]);
        }
        objects[of] = 0;
        CHECK(rcumalloc_pool_destroy(pool[of]));
    }
}

static uint64_t check_classes(const struct rcumalloc_stats *s) {
    uint64_t live = 0, deferred = 0, slabs = 0;
    struct rcumalloc_class_stats c;
    for (unsigned i = 0; rcumalloc_class_stats(i, &c, sizeof c); i++) {
        CHECK(c.size == sizeof c && c.block_bytes >= 16);
        CHECK(c.live + c.cached + c.deferred + c.in_slabs == c.slabs * (65536 / c.block_bytes));
        live += c.live * c.block_bytes;
        deferred += c.deferred * c.block_bytes;
        slabs += c.slabs;
    }
    CHECK(live == s->live_bytes - s->live_large_bytes);
    CHECK(deferred == s->waiting_bytes - s->held_large_bytes);
    return slabs;
}

static void check_sums(void) {
    struct rcumalloc_stats s = stats();
    CHECK(s.size == sizeof s);
    uint64_t slabs = check_classes(&s);
    CHECK(s.blocks_bytes == s.live_bytes + s.cached_bytes + s.waiting_bytes + s.in_slabs_bytes);
    uint64_t by_threads = s.held_filling_bytes + s.held_open_bytes + s.held_shelf_bytes;
    CHECK(s.waiting_bytes == by_threads + s.held_shared_bytes + s.held_slab_bytes + s.held_large_bytes);
    struct rcumalloc_page_stats p;
    CHECK(rcumalloc_page_stats(&p, sizeof p) && p.size == sizeof p);
    uint64_t blocks = p.slab + p.large_live + p.large_freed;
    CHECK(blocks + p.magazine + p.page_cache + p.reserve + p.meta + p.pool + p.free == p.mapped);
    CHECK(p.slab == slabs * 16 && p.mapped * 4096 == s.window_bytes);
    CHECK(blocks * 4096 == s.blocks_bytes);
    CHECK(p.large_live * 4096 == s.live_large_bytes);
    CHECK(p.pool * 4096 == s.pool_bytes && s.pool_live_bytes + s.pool_waiting_bytes <= s.pool_bytes);
    CHECK(s.pool_live_bytes == objects[0] * object_bytes[0] + objects[1] * object_bytes[1]);
}

/* Bytes of what we hold, by size: what the heap says is live has grown by that. */
static uint64_t bytes_held(void) {
    uint64_t bytes = 0;
    for (int at = 0; at < HELD; at++) {
        bytes += held[at] == NULL ? 0 : malloc_usable_size(held[at]);
    }
    return bytes;
}

static void check_live(uint64_t before) { CHECK(stats().live_bytes - before == bytes_held()); }

static pthread_barrier_t step;

static void *rest(void *nothing) {
    void *own = malloc(100);
    free(malloc(5000));
    pthread_barrier_wait(&step);
    pthread_barrier_wait(&step);
    free(own);
    return nothing;
}

static void walk(int calls) {
    static uint64_t seed = 88172645463325252u;
    uint64_t before = stats().live_bytes - bytes_held();
    for (int call = 0; call < calls; call++) {
        one_call(&seed);
        one_pool_call(&seed);
        check_sums();
        check_live(before);
    }
}

static void sums(void) {
    check_sums();
    make_pools();
    walk(3000);
    CHECK(pthread_barrier_init(&step, NULL, 2) == 0);
    pthread_t thread = start(rest, NULL);
    pthread_barrier_wait(&step);
    check_sums();
    walk(3000);
    rcumalloc_read_lock();
    uint64_t waited = stats().waiting_bytes;
    walk(300);
    CHECK(stats().waiting_bytes > waited);
    rcumalloc_read_unlock();
    malloc_trim(0);
    walk(300);
    CHECK(!rcumalloc_class_stats(64, (void *)held, sizeof held));
    pthread_barrier_wait(&step);
    join(thread);
    drop_pools();
    check_sums();
    rcumalloc_barrier();
    check_sums();
    CHECK(stats().pool_bytes == 0);
    /* A program that knows less gets what it knows, and one that knows more gets zeros. */
    unsigned char more[sizeof(struct rcumalloc_stats) + 16], less[16];
    memset(more, 0xa5, sizeof more);
    memset(less, 0xa5, sizeof less);
    CHECK(rcumalloc_stats((void *)more, sizeof more));
    CHECK(more[sizeof more - 1] == 0 && more[sizeof more - 16] == 0);
    CHECK(rcumalloc_stats((void *)less, 8) && less[8] == 0xa5 && memcmp(less, more, 8) == 0);
}

/* ---- forms ---- */

static int create(const char *dir, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    return fd;
}

static void *churn(void *nothing) {
    exercise((uintptr_t)pthread_self(), 20000);
    return nothing;
}

static void forms(const char *dir) {
    static uint64_t seed = 88172645463325252u;
    for (int call = 0; call < 20000; call++) {
        one_call(&seed);
    }
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        threads[i] = start(churn, NULL);
    }
    for (int i = 0; i < 3; i++) {
        join(threads[i]);
    }
    CHECK(pthread_barrier_init(&step, NULL, 2) == 0);
    pthread_t thread = start(rest, NULL);
    pthread_barrier_wait(&step);
    /* It sleeps, so a period does not end by itself. */
    rcumalloc_synchronize_expedited();
    pthread_barrier_wait(&step);
    join(thread);
    malloc_trim(0);
    rcumalloc_read_lock();
    for (int call = 0; call < 20000; call++) {
        one_call(&seed);
    }
    CHECK(held[0] == NULL || is_large(held[0]) || malloc_usable_size(held[0]) <= 16384);
    const char *formats[] = {"text", "json", "prometheus"};
    for (int i = 0; i < 3; i++) {
        int fd = create(dir, formats[i]);
        CHECK(rcumalloc_stats_write(fd, formats[i]));
        close(fd);
    }
    CHECK(!rcumalloc_stats_write(1, "yaml") && !rcumalloc_stats_write(1, NULL));
    CHECK(!rcumalloc_stats_write(-1, "json") && !rcumalloc_stalls_write(-1, "json"));
    FILE *xml = fdopen(create(dir, "xml"), "w");
    CHECK(xml != NULL && malloc_info(0, xml) == 0 && fclose(xml) == 0 && malloc_info(1, stdout) == EINVAL);
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    FILE *stream = full < 0 ? NULL : fdopen(full, "w");
    CHECK(full < 0 || !rcumalloc_stats_write(full, "text"));
    if (stream != NULL) {
        setvbuf(stream, NULL, _IONBF, 0);
        CHECK(malloc_info(0, stream) == -1);
        fclose(stream);
    }
    struct mallinfo2 info = mallinfo2();
    CHECK(info.uordblks + info.fordblks == info.arena && info.hblkhd == stats().live_large_bytes);
    rcumalloc_read_unlock();
}

/* ---- handler ---- */

static int nowhere;
static volatile sig_atomic_t written;

static void write_all(int signal) {
    (void)signal;
    static const char *const formats[] = {"text", "json", "prometheus"};
    int before = errno;
    struct rcumalloc_stats s;
    CHECK(rcumalloc_stats_write(nowhere, formats[written % 3]) && rcumalloc_stats(&s, sizeof s));
    CHECK(errno == before);
    written++;
}

static void *hammer(void *seconds) {
    uint64_t until = now_ms() + (uintptr_t)seconds * 1000, seed = (uintptr_t)pthread_self() | 1;
    void *own[32] = {0};
    while (now_ms() < until) {
        for (int round = 0; round < 200; round++) {
            void **place = &own[next_random(&seed) % 32];
            free(*place);
            size_t small = next_random(&seed) % 9000, large = 20000 + next_random(&seed) % 500000;
            *place = malloc(next_random(&seed) % 4 == 0 ? large : small);
            CHECK(*place != NULL);
        }
    }
    for (int at = 0; at < 32; at++) {
        free(own[at]);
    }
    return NULL;
}

static void handler(void) {
    nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    CHECK(nowhere >= 0);
    struct sigaction action = {.sa_handler = write_all, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGPROF, &action, NULL) == 0);
    struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    CHECK(setitimer(ITIMER_PROF, &often, NULL) == 0);
    pthread_t thread = start(hammer, (void *)2);
    hammer((void *)2);
    join(thread);
    CHECK(setitimer(ITIMER_PROF, &never, NULL) == 0);
    PRINT("written", written);
}

int main(int argc, char **argv) {
    CHECK(argc >= 2);
    if (strcmp(argv[1], "sums") == 0) {
        sums();
    } else if (strcmp(argv[1], "forms") == 0) {
        forms(argv[2]);
    } else {
        handler();
    }
    dprintf(1, "done\n");
    return 0;
}
