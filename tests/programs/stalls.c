/* A thread that stalls in sections which begin in three places, while another frees. The figures must name
 * the thread and the places: that of its first section, of which every thread tells; and, when it has been
 * found stalling in a section that began in the fast way and told nothing, those of the next ones, by
 * either kind of call. */
#include "victim.h"

enum { STALL_MS = 700 };
static pthread_barrier_t step;
static int reader_tid, done;

/* Each in 256 bytes of its own. */
#define NOT_INLINED __attribute__((noinline, noclone, aligned(256)))

static NOT_INLINED void first_place(void) {
    rcumalloc_read_lock();
    sleep_ms(STALL_MS);
    rcumalloc_read_unlock();
}

static NOT_INLINED void second_place(void) {
    rcumalloc_read_lock();
    sleep_ms(STALL_MS);
    rcumalloc_read_unlock();
}

static NOT_INLINED void third_place(rcumalloc_reader *self) {
    rcumalloc_reader_lock(self);
    sleep_ms(STALL_MS);
    rcumalloc_reader_unlock(self);
}

static void *read_slowly(void *nothing) {
    reader_tid = (int)syscall(SYS_gettid);
    pthread_barrier_wait(&step);
    first_place();
    /* Many that do not stall: the thread begins its sections in the fast way again, ... */
    for (int i = 0; i < 5000; i++) {
        rcumalloc_read_lock();
        rcumalloc_read_unlock();
    }
    /* ... tells nothing of the one in which it is found, ... */
    second_place();
    rcumalloc_quiescent_state();
    /* ... and everything of those that follow. */
    second_place();
    third_place(rcumalloc_reader_self());
    __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
    pthread_barrier_wait(&step);
    return nothing;
}

static void read_back(int fd, char *text, size_t size) {
    ssize_t n = pread(fd, text, size - 1, 0);
    CHECK(n > 0);
    text[n] = 0;
}

/* What is booked to sections of the reader that began in [from, from + 256). */
static void print_place(const char *text, const char *name, uintptr_t from) {
    unsigned long long found = 0, looks = 0;
    for (const char *line = text; *line != 0; line = strchr(line, '\n') + 1) {
        int tid;
        unsigned long long began, whole, parts, longest, longest_parts, bytes, times;
        const char *form = "rcumalloc: stalled thread=%d began=%llx held=%llu.%llu longest=%llu.%llu "
                           "byte_seconds=%llu looks=%llu";
        CHECK(sscanf(line, form, &tid, &began, &whole, &parts, &longest, &longest_parts, &bytes,
            &times) == 8);
        bool is_here = from == 0 ? began == 0 : began >= from && began < from + 256;
        if (tid == reader_tid && is_here) {
            found += whole * 1000 + parts / 1000000;
            looks += times;
        }
    }
    dprintf(1, "%s_ms %llu\n", name, found);
    dprintf(1, "%s_looks %llu\n", name, looks);
}

int main(void) {
    static char text[16384];
    pthread_barrier_init(&step, NULL, 2);
    pthread_t reader = start(read_slowly, NULL);
    pthread_barrier_wait(&step);
    for (uint64_t round = 1; !__atomic_load_n(&done, __ATOMIC_ACQUIRE); round++) {
        exercise(round, 50);
        sleep_ms(1);
    }
    pthread_barrier_wait(&step);
    join(reader);
    int fd = memfd_create("stalls", MFD_CLOEXEC);
    CHECK(fd >= 0 && rcumalloc_stalls_write(fd, "text"));
    read_back(fd, text, sizeof text);
    print_place(text, "first", (uintptr_t)first_place);
    print_place(text, "second", (uintptr_t)second_place);
    print_place(text, "third", (uintptr_t)third_place);
    print_place(text, "unknown", 0);
    CHECK(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0 && rcumalloc_stalls_write(fd, "json"));
    read_back(fd, text, sizeof text);
    dprintf(1, "json %s", text[0] == '[' && text[strlen(text) - 2] == ']' ? "ok\n" : text);
    CHECK(rcumalloc_stalls_write(fd, "folded") && !rcumalloc_stalls_write(fd, "yaml"));
}
