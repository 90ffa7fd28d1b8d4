/* A table of counted objects that readers search without a lock. A removed object may be another one, of
 * another key, before a reader has looked at it: its memory is of a typed pool, so it is an object still, and
 * the reader takes a reference and then asks for the key again.
 *
 *     cc -o pool_table pool_table.c -I preload/include -pthread && scripts/run -- ./pool_table
 *     ./pool_table torture            looks at every object as long as it may
 *     ./pool_table careless           does not ask again, and finds others' objects
 */
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rcumalloc.h"

enum { SLOTS = 64, KEYS = 256, MADE = 0x0b9ec7 };

struct object {
    int made;         /* MADE from the first time on: its memory is never anything else */
    atomic_uint refs; /* 0: nobody has it; the table's own is one */
    atomic_uint key;
    atomic_uint value; /* always three times the key */
    char more[240];
};

static rcumalloc_pool *pool;
static _Atomic(struct object *) table[SLOTS];
static atomic_bool stop;
static bool is_torture, is_careless;
static atomic_ulong found, wrong, strange;

static void put(struct object *object) {
    if (atomic_fetch_sub(&object->refs, 1) == 1) {
        rcumalloc_pool_free(pool, object);
    }
}

/* A reference, unless the object is nobody's by now. */
static bool take(struct object *object) {
    unsigned refs = atomic_load(&object->refs);
    while (refs != 0 && !atomic_compare_exchange_weak(&object->refs, &refs, refs + 1)) {
    }
    return refs != 0;
}

static struct object *look_up(unsigned key) {
    rcumalloc_read_lock();
    struct object *object = atomic_load(&table[key % SLOTS]);
    if (object != NULL && atomic_load(&object->key) != key) {
        object = NULL;
    }
    for (int pause = 0; is_torture && object != NULL && pause < 3; pause++) {
        sched_yield();
        strange += object->made != MADE; /* freed or not, it is of its type until the section ends */
    }
    if (object != NULL && !take(object)) {
        object = NULL;
    }
    rcumalloc_read_unlock();
    if (object != NULL && !is_careless && atomic_load(&object->key) != key) {
        put(object); /* another one by now */
        object = NULL;
    }
    return object;
}

static void insert(unsigned key) {
    struct object *object = rcumalloc_pool_alloc(pool);
    if (object == NULL) {
        abort();
    }
    object->made = MADE;
    atomic_store(&object->key, key);
    atomic_store(&object->value, 3 * key);
    atomic_store(&object->refs, 1); /* from here on readers may take it */
    object = atomic_exchange(&table[key % SLOTS], object);
    if (object != NULL) {
        put(object);
    }
}

static void empty(void) {
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        struct object *object = atomic_exchange(&table[slot], NULL);
        if (object != NULL) {
            put(object);
        }
    }
}

static void *reader(void *unused) {
    for (unsigned key = 0; !stop; key = (key + 7) % KEYS) {
        struct object *object = look_up(key);
        if (object != NULL) {
            found++;
            wrong += atomic_load(&object->value) != 3 * key;
            put(object);
        }
    }
    return unused;
}

/* What is not the pool's gets whatever memory the pool gives up, and overwrites it. */
static void *others(void *unused) {
    while (!stop) {
        void *block[32];
        for (int i = 0; i < 32; i++) {
            size_t size = (size_t)16384 << i % 4;
            block[i] = malloc(size);
            if (block[i] != NULL) {
                memset(block[i], 0xdd, size);
            }
        }
        for (int i = 0; i < 32; i++) {
            rcumalloc_free_now(block[i]);
        }
    }
    return unused;
}

int main(int argc, char **argv) {
    if (!rcumalloc_present()) {
        fputs("run me with LD_PRELOAD=librcumalloc.so\n", stderr);
        return 1;
    }
    is_careless = argc > 1 && strcmp(argv[1], "careless") == 0;
    is_torture = is_careless || (argc > 1 && strcmp(argv[1], "torture") == 0);
    pool = rcumalloc_pool_create("table", sizeof(struct object), 0, RCUMALLOC_POOL_TYPESAFE);
    if (pool == NULL) {
        return 1;
    }
    pthread_t threads[3];
    for (int i = 0; i < 2; i++) {
        pthread_create(&threads[i], NULL, reader, NULL);
    }
    pthread_create(&threads[2], NULL, is_torture ? others : reader, NULL);
    for (unsigned i = 0; i < (is_torture ? 60000 : 1000000); i++) {
        insert(i * 2654435761u % KEYS);
        if (is_torture && i % 4 == 0) {
            sched_yield();
        }
        if (is_torture && i % 500 == 0) {
            empty();
            malloc_trim(0); /* what is empty leaves the pool */
        }
    }
    stop = true;
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
    empty();
    printf("%s\n", found != 0 ? "some were found" : "none was found");
    printf("wrong %lu\nstrange %lu\n", wrong, strange);
    return !rcumalloc_pool_destroy(pool);
}
