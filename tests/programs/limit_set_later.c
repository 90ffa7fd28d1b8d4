/* `limit_set_later self|outside|worker as|data [thread]`: a limit on address space or data comes after the
 * heap has started: the program's own call, prlimit from another process, or in the child of a fork.
 * Threads and libraries still find room; the heap gets what the limit allows and no more, gets it again
 * after it was freed, in any size, and leaves it to others when it is trimmed. */
#include "victim.h"

enum { ROOM_KIB = 96 << 10, KEPT = 8 << 20, SMALL = 1000, LARGE = 1 << 20 };
static int resource;
static const char *measure;

static void *nothing(void *unused) { return unused; }
static void *idle(void *unused) {
    for (;;) {
        pause();
    }
    return unused;
}

static void limit(void) {
    struct rlimit most;
    CHECK(getrlimit(resource, &most) == 0);
    most.rlim_cur = (rlim_t)(status_kib(measure) + ROOM_KIB) << 10;
    CHECK(setrlimit(resource, &most) == 0);
}

/* Bytes that the heap grants in blocks of this size, until it says no; all of them written and freed. */
static size_t granted(size_t size) {
    void **last = NULL;
    size_t count = 0;
    for (;;) {
        errno = 0;
        void **block = malloc(size);
        if (block == NULL) {
            break;
        }
        memset(block, 1, size);
        *block = last;
        last = block;
        count++;
        CHECK(count * size <= ((size_t)ROOM_KIB << 10) + 4 * KEPT); /* what the heap had left */
    }
    CHECK(errno == ENOMEM);
    while (last != NULL) {
        void **next = *last;
        free(last);
        last = next;
    }
    return count * size;
}

static void live_with_it(void) {
    join(start(nothing, NULL));
    void *library = dlopen("libresolv.so.2", RTLD_NOW);
    CHECK(library != NULL);
    CHECK(dlclose(library) == 0);
    errno = 0;
    CHECK(malloc((size_t)ROOM_KIB << 11) == NULL && errno == ENOMEM);
    for (int round = 0; round < 2; round++) {
        dprintf(1, "large_%d %zu\n", round, granted(LARGE) >> 20);
        dprintf(1, "small_%d %zu\n", round, granted(SMALL) >> 20);
    }
    malloc_trim(0);
    size_t theirs = (size_t)ROOM_KIB * 1024 / 2;
    void *mapped = mmap(NULL, theirs, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mapped != MAP_FAILED);
    CHECK(munmap(mapped, theirs) == 0);
    join(start(nothing, NULL));
    exercise(3, 3000);
}

int main(int argc, char **argv) {
    CHECK(argc >= 3);
    bool is_as = strcmp(argv[2], "as") == 0;
    resource = is_as ? RLIMIT_AS : RLIMIT_DATA;
    measure = is_as ? "VmSize:" : "VmData:";
    if (argc > 3) {
        start(idle, NULL);
    }
    char *kept = malloc(KEPT);
    CHECK(kept != NULL);
    memset(kept, 1, KEPT);
    exercise(2, 3000);
    if (strcmp(argv[1], "worker") == 0) {
        pid_t worker = fork();
        if (worker == 0) {
            limit();
            live_with_it();
            _exit(0);
        }
        reap(worker);
    } else if (strcmp(argv[1], "outside") == 0) {
        struct rlimit most;
        CHECK(getrlimit(resource, &most) == 0);
        most.rlim_cur = (rlim_t)(status_kib(measure) + ROOM_KIB) << 10;
        pid_t other = fork();
        if (other == 0) {
            CHECK(prlimit(getppid(), resource, &most, NULL) == 0);
            _exit(0);
        }
        reap(other);
        live_with_it();
    } else {
        limit();
        live_with_it();
    }
    CHECK(kept[KEPT - 1] == 1);
    return 0;
}
