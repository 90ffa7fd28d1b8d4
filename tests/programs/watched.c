/* What the library publishes of a process, read from its own pages as another process would read them. */
#include "victim.h"

#include <sys/uio.h>

#define HEAD_WORDS 16
#define TEXTS 3

enum { MAGIC, VERSION, PID, SEQUENCE, AT_NS, SIGNAL, TEXT };

/* The pages; NULL: there are none. How many mappings have the name goes to *count. */
static uint64_t *find(int *count) {
    static char maps[1 << 20];
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    size_t len = 0;
    for (ssize_t n; (n = read(fd, maps + len, sizeof maps - 1 - len)) > 0;) {
        len += (size_t)n;
    }
    close(fd);
    maps[len] = 0;
    uint64_t *pages = NULL;
    *count = 0;
    for (char *line = strtok(maps, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        if (strstr(line, "rcumalloc-watch") != NULL) {
            *count += 1;
            pages = pages == NULL ? (uint64_t *)strtoull(line, NULL, 16) : pages;
        }
    }
    return pages;
}

/* Descriptors of the pages: the library may keep none. */
static int descriptors(void) {
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    CHECK(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char target[256];
        ssize_t len = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
        target[len < 0 ? 0 : len] = 0;
        count += strstr(target, "rcumalloc-watch") != NULL;
    }
    closedir(dir);
    return count;
}

/* A word of the pages, whoever writes them. */
static uint64_t word(uint64_t *pages, int index) { return __atomic_load_n(&pages[index], __ATOMIC_ACQUIRE); }

/* A copy of one text, with a zero at its end. */
static char *text(uint64_t *pages, int index) {
    size_t len = word(pages, TEXT + 2 * index + 1);
    char *copy = malloc(len + 1);
    CHECK(copy != NULL);
    memcpy(copy, (char *)pages + word(pages, TEXT + 2 * index), len);
    copy[len] = 0;
    return copy;
}

static uint64_t figure(const char *json, const char *name) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"%s\": ", name);
    const char *found = strstr(json, wanted);
    CHECK(found != NULL);
    return strtoull(found + strlen(wanted), NULL, 10);
}

static void off(void) {
    int count;
    free(malloc(100));
    CHECK(find(&count) == NULL && count == 0);
    /* What is asked for while the program runs. */
    CHECK(rcumalloc_set("RCUMALLOC_WATCH", "1"));
    CHECK(find(&count) != NULL && count == 1);
    char value[32];
    CHECK(rcumalloc_get("RCUMALLOC_WATCH", value, sizeof value) > 0 && strcmp(value, "1") == 0);
    CHECK(!rcumalloc_set("RCUMALLOC_WATCH", "KILL"));
    CHECK(rcumalloc_set("RCUMALLOC_WATCH", "0"));
}

/* On a signal: what it shows is what the heap knows at that moment, and nobody keeps a descriptor. */
static void on_signal(void) {
    int count;
    uint64_t *pages = find(&count);
    CHECK(pages != NULL && count <= 2 && memcmp(pages, "RCUWATCH", 8) == 0);
    CHECK(word(pages, VERSION) == 1 && word(pages, PID) == (uint64_t)getpid());
    CHECK(word(pages, SIGNAL) == SIGUSR2 && word(pages, SEQUENCE) == 0);
    enum { BLOCKS = 3000, BYTES = 1000, LARGE = 1 << 20 };
    static void *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(BYTES);
        CHECK(blocks[i] != NULL);
    }
    void *large = malloc(LARGE);
    CHECK(large != NULL && word(pages, SEQUENCE) == 0);
    struct rcumalloc_stats stats;
    errno = 77;
    raise(SIGUSR2);
    CHECK(errno == 77);
    CHECK(rcumalloc_stats(&stats, sizeof stats));
    CHECK(word(pages, SEQUENCE) == 2 && word(pages, AT_NS) != 0);
    char *json = text(pages, 0), *stalls = text(pages, 1), *samples = text(pages, 2);
    CHECK(figure(json, "live_bytes") == stats.live_bytes);
    CHECK(stats.live_bytes >= (uint64_t)BLOCKS * BYTES + LARGE);
    CHECK(figure(json, "mapped_bytes") == stats.mapped_bytes);
    CHECK(strcmp(stalls, "[]\n") == 0);
    char line[64];
    snprintf(line, sizeof line, "\nrcumalloc_live_bytes %llu\n", (unsigned long long)stats.live_bytes);
    CHECK(strstr(samples, line) != NULL);
    CHECK(descriptors() == 0);
    PRINT("live", stats.live_bytes);
}

/* A child has pages of its own: what it publishes does not show in its parent's, and says whose it is. */
static void forked(void) {
    int count;
    uint64_t *pages = find(&count);
    raise(SIGUSR2);
    uint64_t sequence = word(pages, SEQUENCE), at = word(pages, AT_NS);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        /* Until then a reader sees that it is its parent's. */
        CHECK(word(pages, PID) == (uint64_t)getppid());
        raise(SIGUSR2);
        CHECK(word(pages, PID) == (uint64_t)getpid() && word(pages, SEQUENCE) == sequence + 2);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(word(pages, PID) == (uint64_t)getpid());
    CHECK(word(pages, SEQUENCE) == sequence && word(pages, AT_NS) == at);
}

static bool stop;

static void *allocate(void *unused) {
    (void)unused;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        for (size_t bytes = 16; bytes < 20000; bytes += bytes / 8) {
            free(malloc(bytes));
        }
    }
    return NULL;
}

static void *ask(void *unused) {
    (void)unused;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        raise(SIGUSR2);
        sleep_ms(1);
    }
    return NULL;
}

/* A copy between two looks at the same even sequence belongs together, whoever writes meanwhile. */
static void consistent(void) {
    enum { WANTED = 50 };
    static char copy[256 * 1024];
    int count, whole = 0, torn = 0;
    uint64_t *pages = find(&count);
    pthread_t threads[3];
    CHECK(pthread_create(&threads[0], NULL, allocate, NULL) == 0);
    CHECK(pthread_create(&threads[1], NULL, ask, NULL) == 0);
    CHECK(pthread_create(&threads[2], NULL, ask, NULL) == 0);
    uint64_t until = now_ms() + 60000;
    /* Until some were seen in the middle, too: else nothing has been tried. */
    while ((whole < WANTED || torn < WANTED) && now_ms() < until) {
        struct iovec from = {pages, sizeof copy}, to = {copy, sizeof copy};
        uint64_t before = word(pages, SEQUENCE);
        CHECK(process_vm_readv(getpid(), &to, 1, &from, 1, 0) == (ssize_t)sizeof copy);
        if (before == 0 || before % 2 != 0 || word(pages, SEQUENCE) != before) {
            torn++;
            sched_yield();
            continue;
        }
        uint64_t *head = (uint64_t *)copy;
        CHECK(head[SEQUENCE] == before);
        const char *starts[TEXTS] = {"{", "[", "# HELP "}, *ends[TEXTS] = {"\n}\n", "]\n", "\n"};
        for (int i = 0; i < TEXTS; i++) {
            const char *begin = copy + head[TEXT + 2 * i];
            size_t len = head[TEXT + 2 * i + 1], end = strlen(ends[i]);
            CHECK(len > 2 && strncmp(begin, starts[i], strlen(starts[i])) == 0);
            CHECK(strncmp(begin + len - end, ends[i], end) == 0);
        }
        whole++;
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK(whole >= WANTED && torn >= WANTED);
}

static void *sleeper(void *unused) {
    (void)unused;
    free(malloc(10));
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        sleep_ms(10);
    }
    return NULL;
}

/* By time: slow paths publish, and where threads sleep the watcher does. */
static void by_time(void) {
    int count;
    uint64_t *pages = find(&count);
    CHECK(pages != NULL && word(pages, SIGNAL) == 0);
    uint64_t until = now_ms() + 60000;
    for (int i = 0; word(pages, SEQUENCE) < 4 && now_ms() < until; i++) {
        void *blocks[64];
        for (int j = 0; j < 64; j++) {
            blocks[j] = malloc(16 + (size_t)(i * 64 + j) % 4000);
        }
        for (int j = 0; j < 64; j++) {
            free(blocks[j]);
        }
    }
    uint64_t sequence = word(pages, SEQUENCE);
    CHECK(sequence >= 4);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, sleeper, NULL) == 0);
    /* The watcher is started by a slow path; afterwards nobody allocates. */
    until = now_ms() + 60000;
    while (thread_count() < 3 && now_ms() < until) {
        for (int j = 0; j < 2000; j++) {
            free(malloc((size_t)j));
        }
    }
    CHECK(thread_count() == 3);
    sequence = word(pages, SEQUENCE);
    while (word(pages, SEQUENCE) < sequence + 8 && now_ms() < until) {
        sleep_ms(10);
    }
    CHECK(word(pages, SEQUENCE) >= sequence + 8);
    stop = true;
    pthread_join(thread, NULL);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "off") == 0) {
        off();
    } else if (strcmp(what, "signal") == 0) {
        on_signal();
    } else if (strcmp(what, "fork") == 0) {
        forked();
    } else if (strcmp(what, "consistent") == 0) {
        consistent();
    } else {
        by_time();
    }
    printf("done\n");
    return 0;
}
