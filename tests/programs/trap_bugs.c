/* Mistakes that a trap finds, one an argument. Whichever is not found ends with "not found". */
#include "victim.h"

#include <setjmp.h>
#include <stdatomic.h>

/* Whatever is written, by hand: the compiler must not know what these do. */
static void *(*volatile get)(size_t) = malloc;
static void (*volatile put)(void *) = free;
static void *(*volatile resize)(void *, size_t) = realloc;
static volatile char sink;

/* C23, which this libc may not have. */
RCUMALLOC_WEAK void free_sized(void *block, size_t size);

static void turn(void) { put(get(48)); }

static void *get_text(const char *text) {
    char *block = get(strlen(text) + 1);
    return strcpy(block, text);
}

static void *read_there(void *block) {
    sink = *(volatile char *)block;
    return NULL;
}

static void *free_there(void *block) {
    put(block);
    return NULL;
}

static void elsewhere(void *(*run)(void *), void *block) { join(start(run, block)); }

struct node {
    struct node *next;
    int value;
};

static struct node *of(struct node *next, int value) {
    struct node *node = get(sizeof *node);
    *node = (struct node){next, value};
    return node;
}

static void bug(int which) {
    volatile char *block = get(32);
    memset((void *)block, 7, 32);
    switch (which) {
    case 1: /* read after free */
        put((void *)block);
        sink = block[3];
        break;
    case 2: /* write after free */
        put((void *)block);
        block[31] = 1;
        break;
    case 3: /* read past the end */
        sink = block[32];
        break;
    case 4: /* write past the end */
        block[32] = 1;
        break;
    case 5: /* the same, where the end is not a multiple of 16: found by free */
        block = get(27);
        block[27] = 1;
        put((void *)block);
        break;
    case 6: /* freed twice */
        put((void *)block);
        turn();
        put((void *)block);
        break;
    case 7: /* an address inside of it is freed */
        put((char *)block + 8);
        break;
    case 8: /* another thread has it still */
        put((void *)block);
        elsewhere(read_there, (void *)block);
        break;
    case 9: /* another thread has freed it */
        elsewhere(free_there, (void *)block);
        sink = block[0];
        break;
    case 10: /* freed inside a section, used after it */
        rcumalloc_read_lock();
        put((void *)block);
        sink = block[0];
        rcumalloc_read_unlock();
        turn();
        sink = block[0];
        break;
    case 11: /* used in a section that begins later */
        put((void *)block);
        rcumalloc_read_lock();
        sink = block[0];
        rcumalloc_read_unlock();
        break;
    case 12: /* found in one section, used in the next, freed by another thread in between */
        rcumalloc_read_lock();
        sink = block[1];
        rcumalloc_read_unlock();
        elsewhere(free_there, (void *)block);
        rcumalloc_read_lock();
        sink = block[2];
        rcumalloc_read_unlock();
        break;
    case 13: { /* what realloc has moved */
        void *moved = resize((void *)block, 300);
        CHECK(moved != NULL && moved != (void *)block);
        sink = block[0];
        break;
    }
    case 14: { /* a string is read by libc */
        char *text = get_text("gone"), copy[8];
        put(text);
        memcpy(copy, text, 5);
        sink = copy[0];
        break;
    }
    case 15: { /* the next node is read from the one just freed */
        struct node *list = of(of(of(NULL, 3), 2), 1);
        for (struct node *at = list; at != NULL; at = at->next) {
            put(at);
        }
        break;
    }
    case 16: /* a block of zeros */
        block = calloc(4, 8);
        CHECK(block[31] == 0);
        put((void *)block);
        sink = block[8];
        break;
    case 17: { /* an aligned one */
        void *aligned = NULL;
        CHECK(posix_memalign(&aligned, 256, 256) == 0 && (uintptr_t)aligned % 256 == 0);
        put(aligned);
        sink = *(volatile char *)aligned;
        break;
    }
    case 18: /* a page in front of it */
        sink = block[-4096];
        break;
    case 19: /* freed with another size */
        free_sized((void *)block, 31);
        break;
    case 20: /* freed at once, inside a section */
        rcumalloc_read_lock();
        rcumalloc_free_now((void *)block);
        sink = block[0];
        break;
    case 21: /* deferred by name */
        rcumalloc_free((void *)block);
        block[0]++;
        break;
    case 22: /* a freed block is reallocated */
        put((void *)block);
        sink = *(char *)resize((void *)block, 400);
        break;
    case 23: { /* the last reference has gone, and somebody has one more */
        atomic_int *count = (atomic_int *)block;
        atomic_store(count, 1);
        if (atomic_fetch_sub(count, 1) == 1) {
            put(count);
        }
        atomic_fetch_add(count, 1);
        break;
    }
    default: /* memory that has been freed for long, by many */
        put((void *)block);
        for (int i = 0; i < 50; i++) {
            turn();
        }
        sink = block[16];
    }
}

static sigjmp_buf back;

static void on_fault(int signal, siginfo_t *info, void *context) {
    CHECK(signal == SIGSEGV && context != NULL && info->si_code > 0);
    siglongjmp(back, 1);
}

static void on_fault_simply(int signal) {
    CHECK(signal == SIGSEGV);
    siglongjmp(back, 1);
}

static void handle(bool simply) {
    struct sigaction action = {.sa_flags = SA_SIGINFO};
    action.sa_sigaction = on_fault;
    if (simply) {
        action.sa_flags = 0;
        action.sa_handler = on_fault_simply;
    }
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
}

/* The program's own handler runs behind the report, whenever it was installed, and for faults of its own. */
static void handled(void) {
    volatile int caught = 0;
    for (volatile int round = 0; round < 6; round++) {
        handle(round % 2 != 0);
        volatile char *block = get(32);
        put((void *)block);
        if (sigsetjmp(back, 1) == 0) {
            sink = round < 4 ? *block : *(volatile char *)16;
            CHECK(!"reached");
        }
        caught++;
    }
    PRINT("caught", caught);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    if (strcmp(argv[1], "handled") == 0) {
        handled();
        return 0;
    }
    if (strcmp(argv[1], "forked") == 0) {
        volatile char *block = get(32);
        pid_t child = fork();
        if (child == 0) {
            put((void *)block);
            sink = *block;
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        PRINT("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
        sink = *block;
        put((void *)block);
        return 0;
    }
    if (strcmp(argv[1], "reported") == 0) {
        bug(1);
        bug(2);
        PRINT("went_on", 1);
        return 0;
    }
    bug(atoi(argv[1]));
    PRINT("not_found", 1);
    return 0;
}
