/* Somebody maps right where the heap would grow next, and where it gave memory back: the heap steps around
 * it and touches nothing of it. Addresses of those places, and any others near the heap, are no blocks: to
 * free them is reported and does no harm. */
#include "victim.h"

enum { SIZE = 200000, MANY = 300 };
static char *block[MANY];

static void map_at(char *at) {
    char *mapped =
        mmap(at, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(mapped == at);
    memset(at, 7, 4096);
}

static void check_theirs(const char *at) {
    for (int i = 0; i < 4096; i++) {
        CHECK(at[i] == 7);
    }
}

static void allocate(const char *theirs, const char *other) {
    for (int i = 0; i < MANY; i++) {
        block[i] = malloc(SIZE);
        CHECK(block[i] != NULL);
        CHECK(theirs + 4096 <= block[i] || block[i] + SIZE <= theirs);
        CHECK(other == NULL || other + 4096 <= block[i] || block[i] + SIZE <= other);
        fill(block[i], SIZE, i);
    }
}

static void release(void) {
    for (int i = 0; i < MANY; i++) {
        CHECK(filled(block[i], SIZE, i));
        free(block[i]);
    }
    malloc_trim(0);
}

/* The end of the mapping that this address lies in. */
static char *end_of_mapping(const void *address) {
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    char line[512], *found = NULL;
    while (fgets(line, sizeof line, maps) != NULL) {
        uintptr_t from, to;
        CHECK(sscanf(line, "%lx-%lx", &from, &to) == 2);
        if (from <= (uintptr_t)address && (uintptr_t)address < to) {
            found = (char *)to;
        }
    }
    fclose(maps);
    CHECK(found != NULL);
    return found;
}

int main(void) {
    char *low = malloc(SIZE);
    CHECK(low != NULL);
    char *behind = end_of_mapping(low);
    map_at(behind);
    allocate(behind, NULL);
    char *hole = (char *)((uintptr_t)block[MANY / 2] & ~(uintptr_t)4095);
    release();
    check_theirs(behind);
    map_at(hole);
    allocate(behind, hole);
    uint64_t bad = stats().bad_calls;
    free(behind + 16);
    free(hole + 16);
    CHECK(stats().bad_calls == bad + 2);
    release();
    /* Given back, past all that the heap ever had, in front of it, and far away. */
    char *wild[] = {block[7], block[MANY - 1] + SIZE / 2, block[0] + (1ul << 33), low - (1ul << 33),
        low + (1ul << 41)};
    bad = stats().bad_calls;
    for (unsigned i = 0; i < sizeof wild / sizeof *wild; i++) {
        free(wild[i]);
        CHECK(malloc_usable_size(wild[i]) == 0);
    }
    CHECK(stats().bad_calls == bad + 10);
    check_theirs(behind);
    check_theirs(hole);
    free(low);
    exercise(1, 3000);
    return 0;
}
