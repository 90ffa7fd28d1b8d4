/* `jump_stepping [thread]`: a handler jumps out of calls of the heap, once at each instruction that they come
 * by. Which these are the processor's trap flag says, which raises SIGTRAP behind each; then a breakpoint is
 * put at one after the other, whose handler leaves. After each jump the heap must serve, and what the program
 * holds must be its own still. With `thread`: beside an idle thread. */
#include "victim.h"

#include <link.h>
#include <setjmp.h>
#include <ucontext.h>

enum { LIVE = 200, SOME = 150, FEW = 12, ROUNDS = 2, MOST_CODE = 1 << 20, BREAKPOINT = 0xcc };

/* What is known of each byte of the library's code. */
enum { NOT_SEEN, SEEN, LEFT };
static unsigned char known[MOST_CODE];
static unsigned char *code;
static size_t code_size;

static sigjmp_buf out;
static unsigned long seen;
/* Where the breakpoint is, and what stood there. */
static unsigned char *broken, whole;

static void mend_code(void) {
    if (broken != NULL) {
        *broken = whole;
        broken = NULL;
    }
}

static void on_trap(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    size_t at = (size_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] - (size_t)code;
    if (broken != NULL) {
        CHECK(code + at == broken + 1);
        mend_code();
        siglongjmp(out, 1);
    }
    if (at < code_size && known[at] == NOT_SEEN) {
        known[at] = SEEN;
        seen++;
    }
}

static void set_trap_flag(void) {
    __asm__ __volatile__("pushfq; orl $0x100, (%%rsp); popfq" ::: "memory", "cc");
}
static void clear_trap_flag(void) {
    __asm__ __volatile__("pushfq; andl $~0x100, (%%rsp); popfq" ::: "memory", "cc");
}

static int find_code(struct dl_phdr_info *of, size_t size, void *unused) {
    (void)size, (void)unused;
    for (int i = 0; i < of->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &of->dlpi_phdr[i];
        uintptr_t from = of->dlpi_addr + part->p_vaddr, to_malloc = (uintptr_t)malloc - from;
        if (part->p_type == PT_LOAD && (part->p_flags & PF_X) != 0 && to_malloc < part->p_memsz) {
            code = (unsigned char *)from;
            code_size = part->p_memsz;
        }
    }
    return code != NULL;
}

/* The library's code is its own affair: the kernel is asked, not libc. */
static void make_code_writable(void) {
    dl_iterate_phdr(find_code, NULL);
    CHECK(code != NULL && code_size <= MOST_CODE);
    uintptr_t from = (uintptr_t)code & ~(uintptr_t)4095;
    size_t size = (uintptr_t)code + code_size - from;
    CHECK(syscall(SYS_mprotect, from, size, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
}

/* What the program holds all the time, of many sizes. */
static struct {
    void *block;
    size_t size;
} live[LIVE];

static void take_live(int i) {
    static uint64_t state = 88172645463325252;
    live[i].size = i % 20 == 0 ? 70000 + next_random(&state) % 300000 : 16 + next_random(&state) % 14000;
    live[i].block = malloc(live[i].size);
    CHECK(live[i].block != NULL);
    fill(live[i].block, live[i].size, (unsigned)i);
}

static bool is_whole(int i) { return filled(live[i].block, live[i].size, (unsigned)i); }

/* What is left in the middle, and what comes before and is not. Of blocks of 12000 bytes a magazine holds a
 * few, so that some of a dozen calls are slow; of small ones more. */
static void *blocks[SOME];

static void no_blocks(void) { memset(blocks, 0, sizeof blocks); }
static void allocate(int count, size_t size) {
    for (int i = 0; i < count; i++) {
        blocks[i] = malloc(size);
    }
}
static void allocate_medium(void) { allocate(FEW, 12000); }
static void allocate_small(void) { allocate(SOME, 40); }
static void some_large(void) {
    allocate(3, 300000);
    for (int i = 0; i < 3; i++) {
        *(char *)blocks[i] = 1;
    }
}
static void free_from(int first) {
    for (int i = first; i < SOME; i++) {
        free(blocks[i]);
    }
}
static void free_all(void) { free_from(0); }
static void allocate_large(void) { blocks[0] = malloc(300000); }
static void zeros(void) { blocks[0] = calloc(1, 90000); }
static void aligned(void) { blocks[0] = aligned_alloc(65536, 200000); }
static void grow(void) { blocks[0] = realloc(blocks[0], 500000); }
static void shrink(void) { blocks[0] = realloc(blocks[0], 100000); }
static void trim(void) { malloc_trim(0); }

static void barrier(void) { rcumalloc_barrier(); }

static const struct {
    const char *name;
    void (*before)(void);
    void (*call)(void);
    /* Of the blocks, those from here on are the program's still when it has left the call. */
    int untouched;
} calls[] = {
    {"small", no_blocks, allocate_small, SOME},
    {"free_small", allocate_small, free_all, SOME},
    {"medium", no_blocks, allocate_medium, SOME},
    {"free_medium", allocate_medium, free_all, SOME},
    {"large", no_blocks, allocate_large, SOME},
    {"free_large", some_large, free_all, SOME},
    {"calloc", no_blocks, zeros, SOME},
    {"aligned_alloc", no_blocks, aligned, SOME},
    {"grow", some_large, grow, 1},
    {"shrink", some_large, shrink, 1},
    {"trim", no_blocks, trim, SOME},
    {"barrier", some_large, barrier, 0},
};

static void prepare(size_t kind) {
    no_blocks();
    calls[kind].before();
}

/* Learns which instructions there are. Paths differ from time to time. */
static void step_through(size_t kind) {
    prepare(kind);
    set_trap_flag();
    calls[kind].call();
    clear_trap_flag();
    if (calls[kind].call != free_all) {
        free_all();
    }
}

/* Whether the call came by the instruction, and was left there. */
static bool leave_at(size_t kind, size_t at) {
    prepare(kind);
    if (sigsetjmp(out, 1) != 0) {
        known[at] = LEFT;
        free_from(calls[kind].untouched);
        return true;
    }
    whole = code[at];
    code[at] = BREAKPOINT;
    broken = code + at;
    calls[kind].call();
    mend_code();
    if (calls[kind].call != free_all) {
        free_all();
    }
    return false;
}

/* What it serves is nobody else's. */
static void look(unsigned long round) {
    int i = (int)(round % LIVE);
    if (round % 8 == 0) {
        malloc_trim(0);
    }
    CHECK(is_whole(i));
    free(live[i].block);
    take_live(i);
    free(malloc(12000));
    free(malloc(300000));
    for (int k = 0; k < LIVE && round % 16 == 0; k++) {
        CHECK(is_whole(k));
    }
    if (round % 64 == 0) {
        pid_t child = fork();
        if (child == 0) {
            exercise(2, 100);
            _exit(0);
        }
        int status;
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        CHECK(status == 0);
    }
}

static void *idle(void *unused) {
    free(malloc(100));
    for (;;) {
        pause();
    }
    return unused;
}

int main(int argc, char **argv) {
    make_code_writable();
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGTRAP, &action, NULL) == 0);
    if (argc > 1 && strcmp(argv[1], "thread") == 0) {
        start(idle, NULL);
    }
    for (int i = 0; i < LIVE; i++) {
        take_live(i);
    }
    unsigned long jumps = 0;
    for (size_t kind = 0; kind < sizeof calls / sizeof *calls; kind++) {
        memset(known, NOT_SEEN, sizeof known);
        seen = 0;
        unsigned long here = 0;
        for (size_t at = 0, round = 0; at < ROUNDS * code_size; at++) {
            if (at % code_size == 0) {
                step_through(kind);
            }
            if (known[at % code_size] == SEEN) {
                here += leave_at(kind, at % code_size);
                look(round++);
            }
        }
        jumps += here;
        dprintf(2, "%s: %lu of %lu instructions\n", calls[kind].name, here, seen);
    }
    for (int k = 0; k < LIVE; k++) {
        CHECK(is_whole(k));
        free(live[k].block);
    }
    exercise(1, 20000);
    PRINT("jumps", jumps);
    PRINT("bad_calls", stats().bad_calls);
    PRINT("rss_kib", rss_kib());
    PRINT("size_kib", status_kib("VmSize:"));
    return 0;
}
