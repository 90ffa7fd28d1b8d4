/* Which blocks come back under a section: of each size named, how many in a hundred of those freed by
 * free, by a realloc that moves, and by rcumalloc_free are handed out again before the section ends. */
#include "victim.h"

enum { MOST = 20000 };
static void *freed[MOST], *taken[MOST];

static int by_address(const void *a, const void *b) {
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return x < y ? -1 : x > y;
}

static void *move(void *block, size_t size) {
    void *moved = realloc(block, size > 16 ? size / 4 : 64);
    CHECK(moved != NULL);
    return moved;
}

/* How many of so many blocks of `size` come back. */
static unsigned again(const char *how, size_t size, int count) {
    for (int i = 0; i < count; i++) {
        freed[i] = malloc(size);
        CHECK(freed[i] != NULL);
        memset(freed[i], 1, size);
    }
    void *spare[64];
    int spares = 0;
    for (int i = 0; i < count; i++) {
        if (strcmp(how, "rcu") == 0) {
            rcumalloc_free(freed[i]);
        } else if (strcmp(how, "realloc") == 0) {
            void *moved = move(freed[i], size);
            if (spares < 64) {
                spare[spares++] = moved;
            } else {
                rcumalloc_free(moved);
            }
        } else {
            free(freed[i]);
        }
    }
    qsort(freed, (size_t)count, sizeof *freed, by_address);
    unsigned found = 0;
    for (int i = 0; i < count; i++) {
        taken[i] = malloc(size);
        CHECK(taken[i] != NULL);
        found += bsearch(&taken[i], freed, (size_t)count, sizeof *freed, by_address) != NULL;
    }
    for (int i = 0; i < count; i++) {
        free(taken[i]);
    }
    while (spares != 0) {
        free(spare[--spares]);
    }
    return found;
}

static void *churn(void *seed) {
    for (int i = 0; i < 8; i++) {
        rcumalloc_read_lock();
        exercise((uint64_t)(uintptr_t)seed + (uint64_t)i * 7, 1000);
        rcumalloc_read_unlock();
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(rcumalloc_present());
    if (argc == 2 && strcmp(argv[1], "twice") == 0) {
        join(start(churn, NULL));
        void *block = malloc(5000), *other = malloc(5000);
        free(block);
        free(other);
        free(block);
        for (int i = 0; i < 5000; i++) {
            taken[i] = malloc(5000);
        }
        return 0;
    }
    pthread_t threads[3];
    for (uintptr_t i = 0; i < 3; i++) {
        threads[i] = start(churn, (void *)(i + 1));
    }
    for (int i = 0; i < 3; i++) {
        join(threads[i]);
    }
    rcumalloc_read_lock();
    for (int i = 1; i < argc; i++) {
        size_t size = strtoul(argv[i], NULL, 10);
        int count = size < 1 << 15 ? 3000 : 8;
        for (int how = 0; how < 3; how++) {
            static const char *const names[] = {"free", "realloc", "rcu"};
            char name[64];
            snprintf(name, sizeof name, "%s_%zu", names[how], size);
            PRINT(name, again(names[how], size, count) * 100 / (unsigned)count);
        }
    }
    PRINT("deferred_inside", stats().deferred_bytes);
    rcumalloc_read_unlock();
    rcumalloc_barrier();
    malloc_trim(0);
    PRINT("deferred_after", stats().deferred_bytes);
}
