/* Correct programs that use blocks after their free, as sections allow, or that look as if they did: a trap
 * must not accuse them. One an argument; each goes on for a while. */
#include "victim.h"

#include <stdatomic.h>

/* What these do the compiler must not know: it warns of uses after free. */
static void (*volatile put)(void *) = free;

enum { LIVE = 0x600df00d, READERS = 3, SLOTS = 16 };

struct thing {
    _Atomic(struct thing *) next;
    atomic_int value;
    atomic_int uses;
    struct rcumalloc_head head;
};

static _Atomic(struct thing *) root;
static _Atomic(struct thing *) table[SLOTS];
static atomic_bool stop;
static atomic_ulong seen;
static pthread_mutex_t writers = PTHREAD_MUTEX_INITIALIZER;

static struct thing *make(struct thing *next) {
    struct thing *thing = malloc(sizeof *thing);
    CHECK(thing != NULL);
    atomic_init(&thing->next, next);
    atomic_init(&thing->value, LIVE);
    atomic_init(&thing->uses, 0);
    return thing;
}

static void look(struct thing *thing) {
    if (thing != NULL) {
        CHECK(atomic_load(&thing->value) == LIVE);
        seen++;
    }
}

/* What it looks like while somebody may free it. */
static void look_long(struct thing *thing, int times) {
    for (int i = 0; i < times; i++) {
        look(thing);
        if (i % 8 == 0) {
            sched_yield();
        }
    }
}

/* ---- readers ---- */

static void read_root(void) {
    rcumalloc_read_lock();
    look_long(atomic_load(&root), 20);
    rcumalloc_read_unlock();
}

static void read_list(void) {
    rcumalloc_read_lock();
    int most = 100;
    for (struct thing *at = atomic_load(&root); at != NULL && most-- > 0; at = atomic_load(&at->next)) {
        look(at);
    }
    rcumalloc_read_unlock();
}

static void read_table(void) {
    rcumalloc_read_lock();
    for (int i = 0; i < SLOTS; i++) {
        look(atomic_load(&table[i]));
    }
    rcumalloc_read_unlock();
}

static void read_slowly(void) {
    rcumalloc_read_lock();
    struct thing *thing = atomic_load(&root);
    for (int i = 0; i < 10; i++) {
        look(thing);
        sleep_ms(2);
    }
    rcumalloc_read_unlock();
}

static void read_nested(void) {
    rcumalloc_read_lock();
    struct thing *thing = atomic_load(&root);
    rcumalloc_read_lock();
    look_long(thing, 8);
    rcumalloc_read_unlock();
    look_long(thing, 8);
    rcumalloc_read_unlock();
}

static void read_by_handle(void) {
    rcumalloc_reader *self = rcumalloc_reader_self();
    rcumalloc_reader_lock(self);
    look_long(atomic_load(&root), 20);
    rcumalloc_reader_unlock(self);
}

static void read_and_allocate(void) {
    rcumalloc_read_lock();
    struct thing *thing = atomic_load(&root);
    for (int i = 0; i < 20; i++) {
        free(malloc(24 + i));
        look(thing);
    }
    rcumalloc_read_unlock();
}

/* A reader may write to what is freed: a count, a lock. */
static void use(void) {
    rcumalloc_read_lock();
    struct thing *thing = atomic_load(&root);
    if (thing != NULL) {
        for (int i = 0; i < 20; i++) {
            atomic_fetch_add(&thing->uses, 1);
            sched_yield();
            atomic_fetch_sub(&thing->uses, 1);
        }
        look(thing);
    }
    rcumalloc_read_unlock();
}

static void free_in_section(void) {
    rcumalloc_read_lock();
    struct thing *thing = atomic_exchange(&root, make(NULL));
    put(thing);
    free(malloc(40));
    look_long(thing, 20);
    rcumalloc_read_unlock();
}

static void on_signal(int signal) {
    (void)signal;
    rcumalloc_read_lock();
    look(atomic_load(&root));
    rcumalloc_read_unlock();
}

static void read_in_handler(void) { CHECK(raise(SIGUSR1) == 0); }

static void push(struct thing *thing) {
    struct thing *top = atomic_load(&root);
    do {
        atomic_store(&thing->next, top);
    } while (!atomic_compare_exchange_weak(&root, &top, thing));
}

/* Treiber's stack: what a section has seen cannot come back, so its address is no other thing's. */
static struct thing *pop(void) {
    rcumalloc_read_lock();
    struct thing *top = atomic_load(&root);
    while (top != NULL && !atomic_compare_exchange_weak(&root, &top, atomic_load(&top->next))) {
    }
    rcumalloc_read_unlock();
    return top;
}

static void push_and_pop(void) {
    push(make(NULL));
    struct thing *thing = pop();
    look(thing);
    free(thing);
}

/* Michael's and Scott's queue. */
static _Atomic(struct thing *) tail;

static void enqueue_and_dequeue(void) {
    struct thing *thing = make(NULL);
    rcumalloc_read_lock();
    for (;;) {
        struct thing *last = atomic_load(&tail), *next = atomic_load(&last->next), *none = NULL;
        if (next != NULL) {
            atomic_compare_exchange_strong(&tail, &last, next);
        } else if (atomic_compare_exchange_strong(&last->next, &none, thing)) {
            atomic_compare_exchange_strong(&tail, &last, thing);
            break;
        }
    }
    struct thing *first;
    for (;;) {
        first = atomic_load(&root);
        struct thing *last = atomic_load(&tail), *next = atomic_load(&first->next);
        if (first == last) {
            if (next == NULL) {
                first = NULL;
                break;
            }
            atomic_compare_exchange_strong(&tail, &last, next);
        } else if (atomic_compare_exchange_strong(&root, &first, next)) {
            break;
        }
    }
    look(first);
    put(first);
    look(first);
    rcumalloc_read_unlock();
}

/* ---- writers ---- */

static void nothing(void) { sleep_ms(1); }

static void replace(void) { free(atomic_exchange(&root, make(NULL))); }

static void replace_by_name(void) { rcumalloc_free(atomic_exchange(&root, make(NULL))); }

static void replace_and_wait(void) {
    struct thing *old = atomic_exchange(&root, make(NULL));
    rcumalloc_synchronize_expedited();
    rcumalloc_free_now(old);
}

static void poll_and_free(void) {
    struct thing *old = atomic_exchange(&root, make(NULL));
    rcumalloc_cookie cookie = rcumalloc_start_poll();
    while (!rcumalloc_poll(cookie)) {
        rcumalloc_cond_synchronize_expedited(cookie);
    }
    rcumalloc_free_now(old);
}

static void called(struct rcumalloc_head *head) {
    rcumalloc_free_now((char *)head - offsetof(struct thing, head));
}

static void replace_and_call(void) {
    struct thing *old = atomic_exchange(&root, make(NULL));
    rcumalloc_call_head(&old->head, called);
}

static void replace_in_list(void) {
    struct thing *first = atomic_load(&root);
    struct thing *second = first != NULL ? atomic_load(&first->next) : NULL;
    if (second != NULL) {
        atomic_store(&first->next, atomic_load(&second->next));
        free(second);
    }
    atomic_store(&root, make(atomic_load(&root)));
}

static void replace_in_table(void) {
    static atomic_uint at;
    free(atomic_exchange(&table[atomic_fetch_add(&at, 1) % SLOTS], make(NULL)));
}

static void replace_all(void) {
    void *old[SLOTS];
    for (int i = 0; i < SLOTS; i++) {
        old[i] = atomic_exchange(&table[i], make(NULL));
    }
    rcumalloc_free_bulk(old, SLOTS);
}

static void replace_by_realloc(void) {
    struct thing *old = atomic_exchange(&root, NULL);
    if (old != NULL) {
        struct thing *copy = realloc(old, sizeof *old * 3);
        CHECK(copy != NULL);
        free(atomic_exchange(&root, copy));
    }
    free(atomic_exchange(&root, make(NULL)));
}

static void replace_aligned(void) {
    struct thing *thing = aligned_alloc(128, 128);
    CHECK(thing != NULL && (uintptr_t)thing % 128 == 0);
    memset(thing, 0, 128);
    atomic_init(&thing->value, LIVE);
    free(atomic_exchange(&root, thing));
}

static void replace_zeroed(void) {
    struct thing *thing = calloc(1, sizeof *thing);
    CHECK(thing != NULL && atomic_load(&thing->uses) == 0 && atomic_load(&thing->next) == NULL);
    atomic_init(&thing->value, LIVE);
    free(atomic_exchange(&root, thing));
}

static void *replace_there(void *unused) {
    (void)unused;
    replace();
    return NULL;
}

static void replace_by_others(void) { join(start(replace_there, NULL)); }

static void fork_and_read(void) {
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 20; i++) {
            read_root();
            replace();
        }
        _exit(0);
    }
    reap(child);
    replace();
}

/* Without sections: whoever has it, has it alone. */
static void hand_over(void) {
    struct thing *thing = make(NULL);
    struct thing *old = atomic_exchange(&root, thing);
    look(old);
    free(old);
}

static void take_over(void) {
    struct thing *thing = atomic_exchange(&root, NULL);
    look(thing);
    free(thing);
}

static void barriers(void) {
    replace();
    rcumalloc_barrier();
}

static void under_lock(void) {
    CHECK(pthread_mutex_lock(&writers) == 0);
    look(atomic_load(&root));
    replace();
    CHECK(pthread_mutex_unlock(&writers) == 0);
}

static const struct {
    void (*reader)(void), (*writer)(void);
} PROGRAM[] = {
    {read_root, replace},
    {read_root, replace_by_name},
    {read_list, replace_in_list},
    {read_table, replace_in_table},
    {read_table, replace_all},
    {read_slowly, replace},
    {read_nested, replace},
    {read_by_handle, replace},
    {read_and_allocate, replace},
    {use, replace},
    {free_in_section, nothing},
    {read_in_handler, replace},
    {push_and_pop, push_and_pop},
    {enqueue_and_dequeue, enqueue_and_dequeue},
    {read_root, replace_and_wait},
    {read_root, poll_and_free},
    {read_root, replace_and_call},
    {read_root, replace_by_realloc},
    {read_root, replace_aligned},
    {read_root, replace_zeroed},
    {read_root, replace_by_others},
    {read_root, fork_and_read},
    {take_over, hand_over},
    {read_root, barriers},
    {under_lock, under_lock},
};

static void *repeat(void *run) {
    while (!atomic_load(&stop)) {
        ((void (*)(void))run)();
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    unsigned which = (unsigned)atoi(argv[1]);
    CHECK(which < sizeof PROGRAM / sizeof PROGRAM[0]);
    CHECK(signal(SIGUSR1, on_signal) != SIG_ERR);
    atomic_store(&root, make(NULL));
    atomic_store(&tail, atomic_load(&root));
    pthread_t readers[READERS];
    for (int i = 0; i < READERS; i++) {
        readers[i] = start(repeat, (void *)PROGRAM[which].reader);
    }
    for (uint64_t until = now_ms() + 200; now_ms() < until;) {
        PROGRAM[which].writer();
    }
    atomic_store(&stop, true);
    for (int i = 0; i < READERS; i++) {
        join(readers[i]);
    }
    rcumalloc_barrier();
    CHECK(atomic_load(&seen) > 0);
    PRINT("seen", atomic_load(&seen));
    return 0;
}
