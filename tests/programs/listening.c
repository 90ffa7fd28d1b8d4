/* `listening CASE [thread]`: somebody listens for memory that goes. `library`: the library `listener` is
 * preloaded, too, and registers the blocks that come and go here; `lock`: who holds its lock uses the heap;
 * `limit`: at a hard limit; `patched`: libc's own code leads to a listener here. */
#include "victim.h"

#include <stdatomic.h>

enum { MIB = 1 << 20, MOST = 512 };
static const size_t SIZES[] = {20 << 10, 100 << 10, 300 << 10, 1 << 20, 3 * MIB, 7 * MIB, 40 * MIB};
enum { KINDS = sizeof SIZES / sizeof *SIZES, EACH = 3 };

static int (*enter)(const void *, size_t);
static const void *(*entered)(int, size_t *);
static void (*lock)(void), (*unlock)(void);
static unsigned long *unmapped, *advised, *intrusions;

static void *symbol(const char *name) {
    void *found = dlsym(RTLD_DEFAULT, name);
    CHECK(found != NULL);
    return found;
}

static void find_listener(void) {
    enter = (int (*)(const void *, size_t))symbol("listener_register");
    entered = (const void *(*)(int, size_t *))symbol("listener_block");
    lock = (void (*)(void))symbol("listener_lock");
    unlock = (void (*)(void))symbol("listener_unlock");
    unmapped = symbol("listener_unmapped");
    advised = symbol("listener_advised");
    intrusions = symbol("listener_intrusions");
}

/* Every page of what is registered is still there. */
static void look(void) {
    static unsigned char there[40 * MIB / 4096 + 1];
    lock();
    for (int i = 0; i < MOST; i++) {
        size_t size;
        const void *block = entered(i, &size);
        if (size != 0) {
            uintptr_t from = (uintptr_t)block & ~4095ul, to = ((uintptr_t)block + size + 4095) & ~4095ul;
            CHECK(mincore((void *)from, to - from, there) == 0);
            for (size_t page = 0; page < (to - from) / 4096; page++) {
                CHECK(there[page] & 1);
            }
        }
    }
    unlock();
}

/* Blocks come, are registered, and go; some have been advised. */
static void come_and_go(int round) {
    void *blocks[KINDS * EACH];
    for (int i = 0; i < KINDS * EACH; i++) {
        size_t size = SIZES[i % KINDS];
        CHECK((blocks[i] = malloc(size)) != NULL);
        if (size >= MIB && round % 2 == 1) {
            CHECK(madvise((void *)((uintptr_t)blocks[i] & ~4095ul), size, MADV_DONTFORK) == 0);
        }
        memset(blocks[i], 1 + i, size);
        enter(blocks[i], size);
    }
    errno = ERANGE;
    for (int i = 0; i < KINDS * EACH; i++) {
        free(blocks[i]);
        CHECK(errno == ERANGE);
        if (i % 5 == 0) {
            look();
        }
    }
    if (round % 3 == 2) {
        rcumalloc_barrier();
        malloc_trim(0);
        CHECK(errno == ERANGE);
    }
    look();
}

static void library(void) {
    int *deaf = symbol("listener_deaf");
    for (int round = 0; round < 6; round++) {
        come_and_go(round);
    }
    CHECK(status_kib("VmData:") < 64 << 10);
    PRINT("unmapped_mib", *unmapped >> 20);
    PRINT("advised_kib", *advised >> 10);
    /* Who is in a section is not disturbed. */
    void *blocks[16];
    for (int i = 0; i < 16; i++) {
        CHECK((blocks[i] = malloc(5 * MIB)) != NULL);
        memset(blocks[i], 1, 5 * MIB);
    }
    rcumalloc_read_lock();
    *deaf = 1;
    for (int i = 0; i < 16; i++) {
        free(blocks[i]);
        free(malloc(200 << 10));
    }
    malloc_trim(0);
    *deaf = 0;
    rcumalloc_read_unlock();
    CHECK(*intrusions == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        unsigned long before = *unmapped;
        come_and_go(2);
        _exit(*unmapped > before ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void *in_the_lock(void *argument) {
    (void)argument;
    for (int i = 0; i < 300; i++) {
        lock();
        char *block = malloc(3 * MIB + i * 4096);
        CHECK(block != NULL);
        memset(block, 1, 3 * MIB);
        free(block);
        free(malloc(100 << 10));
        unlock();
    }
    return NULL;
}

static void locks(void) {
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        threads[i] = start(in_the_lock, NULL);
    }
    for (int i = 0; i < 40; i++) {
        free(malloc(30 * MIB));
        malloc_trim(0);
    }
    for (int i = 0; i < 3; i++) {
        join(threads[i]);
    }
    CHECK(*unmapped > 30 * MIB);
}

/* Under 128 MiB: what was freed serves in another size. */
static void limit(void) {
    static char *blocks[100 << 10];
    *(size_t *)symbol("listener_most") = 10 << 10;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 9; i++) {
            CHECK((blocks[i] = malloc(10 * MIB)) != NULL);
            memset(blocks[i], 1, 10 * MIB);
        }
        for (int i = 0; i < 9; i++) {
            free(blocks[i]);
        }
        for (int i = 0; i < 90 << 10; i++) {
            CHECK((blocks[i] = malloc(1000)) != NULL);
            blocks[i][0] = 1;
        }
        for (int i = 0; i < 90 << 10; i++) {
            free(blocks[i]);
        }
    }
    look();
    CHECK(*unmapped >= 60 * MIB);
}

static atomic_ulong heard;

static int hear_unmap(void *start, size_t length) {
    atomic_fetch_add(&heard, length);
    free(malloc(100 << 10));
    return (int)syscall(SYS_munmap, start, length);
}

static int hear_advice(void *start, size_t length, int advice) {
    atomic_fetch_add(&heard, advice == MADV_DONTNEED ? length : 0);
    free(malloc(100 << 10));
    return (int)syscall(SYS_madvise, start, length, advice);
}

static void patch(const char *name, void *to) {
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    CHECK(libc != NULL);
    unsigned char *code = dlsym(libc, name);
    CHECK(code != NULL);
    unsigned char jump[12] = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0};
    memcpy(jump + 2, &to, 8);
    void *page = (void *)((uintptr_t)code & ~4095ul);
    CHECK(syscall(SYS_mprotect, page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
    memcpy(code, jump, sizeof jump);
    CHECK(syscall(SYS_mprotect, page, 8192, PROT_READ | PROT_EXEC) == 0);
}

static void patched(void) {
    free(malloc(4 * MIB));
    patch("munmap", (void *)hear_unmap);
    patch("madvise", (void *)hear_advice);
    for (int i = 0; i < 4; i++) {
        char *block = malloc(40 * MIB), *other = malloc(600 << 10);
        CHECK(block != NULL && other != NULL);
        memset(block, 1, 40 * MIB);
        memset(other, 1, 600 << 10);
        free(block);
        free(other);
        rcumalloc_barrier();
        malloc_trim(0);
    }
    CHECK(heard >= 160ul * MIB);
    /* The program's own advice arrives, too. */
    unsigned long before = heard;
    char *pages = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED && madvise(pages, MIB, MADV_DONTNEED) == 0);
    CHECK(heard >= before + MIB);
}

static void *idle(void *argument) {
    for (;;) {
        sleep_ms(1000);
    }
    return argument;
}

int main(int argc, char **argv) {
    CHECK(argc > 1);
    if (argc > 2) {
        start(idle, NULL);
    }
    if (strcmp(argv[1], "patched") == 0) {
        patched();
        return 0;
    }
    find_listener();
    if (strcmp(argv[1], "library") == 0) {
        library();
    } else if (strcmp(argv[1], "lock") == 0) {
        locks();
    } else {
        limit();
    }
    return 0;
}
