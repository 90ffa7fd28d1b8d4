/* `commit_returns [thread]`: a heap that grew and shrank is charged for what it has, not for what it had:
 * by VmData, which is what RLIMIT_DATA and strict overcommit count, and by VmSize. All freed, some kept
 * all over, and without a word from the program; then under a limit that only lets it and a mapping of its
 * own take turns. */
#include "victim.h"

enum { MIB = 1 << 20, HEAP = 256 * MIB, KEPT_EACH = 24 * MIB };

static void *idle(void *unused) {
    for (;;) {
        pause();
    }
    return unused;
}

static int mappings(void) {
    int count = 0, fd = open("/proc/self/maps", O_RDONLY);
    char text[4096];
    CHECK(fd >= 0);
    for (ssize_t n; (n = read(fd, text, sizeof text)) > 0;) {
        for (ssize_t i = 0; i < n; i++) {
            count += text[i] == '\n';
        }
    }
    close(fd);
    return count;
}

static void trim(void) {
    rcumalloc_barrier();
    malloc_trim(0);
}

/* A chain of blocks of `size` bytes, HEAP of them. */
static void **grow(size_t size) {
    void **last = NULL;
    for (size_t got = 0; got < HEAP; got += size) {
        void **block = malloc(size);
        CHECK(block != NULL);
        memset(block, 1, size);
        *block = last;
        last = block;
    }
    return last;
}

/* Frees the chain but for one block in so many bytes, and returns the chain of these. */
static void **shrink(void **last, size_t size, size_t kept_each) {
    void **kept = NULL;
    for (size_t passed = 0; last != NULL; passed += size) {
        void **next = *last;
        if (kept_each != 0 && passed % kept_each < size) {
            *last = kept;
            kept = last;
        } else {
            free(last);
        }
        last = next;
    }
    return kept;
}

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) {
        start(idle, NULL);
    }
    exercise(1, 1000);
    trim();
    long data = status_kib("VmData:"), space = status_kib("VmSize:");
    int before = mappings();
    static const size_t sizes[] = {MIB, 200000, 1000};
    /* On the way or by age, whoever comes by. */
    shrink(grow(200000), 200000, 0);
    for (uint64_t end = now_ms() + 60000; now_ms() < end && status_kib("VmData:") - data > HEAP / 4096;) {
        sleep_ms(100);
        exercise(1, 1000);
    }
    PRINT("aged", status_kib("VmData:") - data);
    for (int i = 0; i < 3; i++) {
        void **all = grow(sizes[i]);
        CHECK(status_kib("VmData:") - data >= HEAP / 2048);
        /* One block in 24 MiB stays: five units of six are free. */
        void **kept = shrink(all, sizes[i], KEPT_EACH);
        trim();
        dprintf(1, "kept_%d %ld\n", i, status_kib("VmData:") - data);
        dprintf(1, "mappings_%d %d\n", i, mappings() - before);
        shrink(kept, sizes[i], 0);
        trim();
        dprintf(1, "data_%d %ld\n", i, status_kib("VmData:") - data);
        dprintf(1, "space_%d %ld\n", i, status_kib("VmSize:") - space);
    }
    struct rlimit limit = {((rlim_t)status_kib("VmData:") << 10) + HEAP + HEAP / 2, RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);
    for (int turn = 0; turn < 3; turn++) {
        shrink(grow(sizes[turn]), sizes[turn], 0);
        trim();
        size_t much = HEAP + HEAP / 4;
        void *theirs = mmap(NULL, much, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(theirs != MAP_FAILED);
        CHECK(malloc(HEAP) == NULL && errno == ENOMEM);
        CHECK(munmap(theirs, much) == 0);
    }
    exercise(2, 3000);
    return 0;
}
