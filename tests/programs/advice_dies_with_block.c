/* `advice_dies_with_block solo|idle`. What the program did to a block beside writing to it (protection,
 * advice, locks) is not met by the block's next owner, whatever size it has, and leaves no mappings
 * behind; while a reader may be at the block, its contents stay. */
#include "victim.h"

enum { PAGE = 4096, MIB = 1 << 20 };

static void *idle(void *unused) {
    pause();
    return unused;
}

static char maps[1 << 20];
static int reowned;

static const char *read_all(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    size_t len = 0;
    for (ssize_t n; (n = read(fd, maps + len, sizeof maps - 1 - len)) > 0;) {
        len += (size_t)n;
    }
    close(fd);
    maps[len] = 0;
    return maps;
}

static int mappings(void) {
    int lines = 0;
    for (const char *at = read_all("/proc/self/maps"); *at != 0; at++) {
        lines += *at == '\n';
    }
    return lines;
}

/* Whether the kernel says `flag` (two letters) of the mapping that `p` lies in; "rw" stands for what a
 * page of a heap should be. 0 if nothing is mapped there. */
static bool has_flag(const void *p, const char *flag) {
    const char *at = read_all("/proc/self/smaps");
    while (at != NULL && *at != 0) {
        char *end;
        uintptr_t low = strtoul(at, &end, 16), high = *end == '-' ? strtoul(end + 1, &end, 16) : 0;
        const char *flags = strstr(at, "\nVmFlags:");
        CHECK(flags != NULL);
        flags++;
        const char *next = strchr(flags, '\n');
        if (low <= (uintptr_t)p && (uintptr_t)p < high) {
            if (strcmp(flag, "rw") == 0) {
                return strncmp(end, " rw-p", 5) == 0;
            }
            char word[5] = {' ', flag[0], flag[1], ' ', 0};
            const char *found = strstr(flags, word);
            return found != NULL && found < next;
        }
        at = next == NULL ? NULL : next + 1;
    }
    return false;
}

static int set(void *p, size_t len, const char *flag) {
    return strcmp(flag, "dc") == 0   ? madvise(p, len, MADV_DONTFORK)
           : strcmp(flag, "wf") == 0 ? madvise(p, len, MADV_WIPEONFORK)
           : strcmp(flag, "dd") == 0 ? madvise(p, len, MADV_DONTDUMP)
           : strcmp(flag, "hg") == 0 ? madvise(p, len, MADV_HUGEPAGE)
           : strcmp(flag, "nh") == 0 ? madvise(p, len, MADV_NOHUGEPAGE)
           : strcmp(flag, "mg") == 0 ? madvise(p, len, MADV_MERGEABLE)
           : strcmp(flag, "sr") == 0 ? posix_madvise(p, len, POSIX_MADV_SEQUENTIAL)
           : strcmp(flag, "lo") == 0 ? mlock(p, len)
                                     : mprotect(p, len, PROT_NONE);
}

/* Frees `block`, of which `changed` was changed, uses the heap, and says whether the change is met by the
 * next owner: writing to what cannot be written ends the victim. */
static bool survives(char *block, size_t size, char *changed, const char *flag, bool at_once) {
    enum { OWNERS = 64 };
    free(block);
    if (!at_once) { /* from where the thread keeps it, or from the slabs and the zone */
        rcumalloc_barrier();
    }
    void *others[OWNERS];
    int owners = size > 64 * PAGE ? 2 : OWNERS;
    bool is_owned = false;
    for (int i = 0; i < owners; i++) {
        CHECK(posix_memalign(&others[i], PAGE, size) == 0);
        for (size_t at = 0; at < size; at += PAGE) {
            ((char *)others[i])[at] = 1;
        }
        is_owned |= (char *)others[i] <= changed && changed < (char *)others[i] + size;
    }
    bool is_met = is_owned && strcmp(flag, "rw") != 0 && has_flag(changed, flag);
    for (int i = 0; i < owners; i++) {
        free(others[i]);
    }
    reowned += is_owned;
    return is_met;
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    if (strcmp(argv[1], "idle") == 0) {
        start(idle, NULL);
    }
    static const char *const FLAGS[] = {"rw", "dc", "wf", "dd", "mg", "sr", "lo", "hg", "nh"};
    static const size_t SIZES[] = {PAGE, 2 * PAGE, 4 * PAGE, 5 * PAGE, 64 * PAGE, 4 * MIB};
    int tried = 0, met = 0;
    for (size_t s = 0; s < sizeof SIZES / sizeof SIZES[0]; s++) {
        /* Huge pages: no call takes the advice back from a page of a slab; a slab is smaller than a huge
         * page. */
        size_t flags = SIZES[s] <= 4 * PAGE ? 7 : 9, size = SIZES[s];
        for (size_t f = 0; f < flags; f++) {
            for (size_t part = 0; part < 3; part++) { /* all of it, its first page, its last one */
                void *block;
                CHECK(posix_memalign(&block, PAGE, size) == 0);
                memset(block, 1, PAGE);
                char *changed = part == 2 ? (char *)block + size - PAGE : block;
                if (set(changed, part == 0 ? size : PAGE, FLAGS[f]) != 0) {
                    free(block); /* this kernel has no such thing, or locks too little */
                    continue;
                }
                CHECK(strcmp(FLAGS[f], "rw") == 0 ? !has_flag(changed, "rw") : has_flag(changed, FLAGS[f]));
                tried++;
                if (survives(block, size, changed, FLAGS[f], part == 0)) {
                    met++;
                    dprintf(2, "%s of %zu bytes (part %zu) is met by the next owner\n", FLAGS[f], size, part);
                }
            }
        }
    }
    PRINT("tried", tried);
    PRINT("met", met);
    PRINT("reowned", reowned);
    /* Small blocks that begin and end anywhere: a page in the middle of one. */
    enum { ODD = 9000, MANY = 600 };
    char *odd[MANY];
    int hidden = 0;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++) {
            CHECK((odd[i] = malloc(ODD)) != NULL);
            memset(odd[i], 2, ODD);
        }
        for (int i = 0; i < MANY; i++) {
            char *page = (char *)(((uintptr_t)odd[i] + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
            CHECK(mprotect(page, PAGE, PROT_NONE) == 0);
            hidden += malloc_usable_size(odd[i]) < ODD;
            hidden += realloc(odd[i], ODD - 100) != odd[i];
        }
        for (int i = 0; i < MANY; i++) {
            free(odd[(i * 7) % MANY]);
        }
    }
    PRINT("hidden", hidden);
    /* No mapping is left behind. */
    rcumalloc_barrier();
    int before = mappings();
    for (int i = 0; i < 1000; i++) {
        void *block;
        CHECK(posix_memalign(&block, PAGE,
            (size_t)(i % 3 == 0 ? 4 * PAGE : MIB) + (size_t)(i % 7) * PAGE) == 0);
        CHECK(madvise((char *)block + PAGE * (i % 3), PAGE, MADV_DONTDUMP) == 0);
        free(block);
    }
    rcumalloc_barrier();
    malloc_trim(0);
    int after = mappings();
    PRINT("mappings_growth", after > before ? after - before : 0);
    /* A reader still finds what was there. */
    char *seen = malloc(8 * MIB), *small = malloc(4 * PAGE);
    memset(seen, 3, 8 * MIB);
    memset(small, 3, 4 * PAGE);
    CHECK(madvise((char *)(((uintptr_t)seen + PAGE) & ~(uintptr_t)(PAGE - 1)), 4 * MIB, MADV_DONTDUMP) == 0);
    CHECK(madvise((char *)(((uintptr_t)small + PAGE) & ~(uintptr_t)(PAGE - 1)), PAGE, MADV_DONTDUMP) == 0);
    rcumalloc_read_lock();
    rcumalloc_free(seen);
    rcumalloc_free(small);
    free(malloc(8 * MIB));
    malloc_trim(0);
    PRINT("lost_to_reader", seen[0] != 3 || seen[2 * MIB] != 3 || seen[8 * MIB - 1] != 3 ||
        small[2 * PAGE] != 3);
    rcumalloc_read_unlock();
    PRINT("bad_calls", stats().bad_calls);
    _exit(0);
}
