/* Sections through a thread's own handle: they nest with those opened by call, hold what is freed meanwhile,
 * in a process of one thread, in one of two, and in a child that was forked inside one. */
#include "victim.h"

enum { SIZE = 96, TAKEN = 20000 };

/* Opens a section, frees a block in it and tries to get it back. */
static void hold(rcumalloc_reader *self) {
    char *block = malloc(SIZE);
    fill(block, SIZE, 1);
    rcumalloc_reader_lock(self);
    CHECK(rcumalloc_read_held());
    rcumalloc_read_lock();
    rcumalloc_reader_lock(self);
    free(block);
    static __thread void *taken[TAKEN];
    rcumalloc_reader_unlock(self);
    rcumalloc_read_unlock();
    CHECK(rcumalloc_read_held());
    rcumalloc_cookie cookie = rcumalloc_start_poll();
    for (int i = 0; i < TAKEN; i++) {
        taken[i] = malloc(SIZE);
        CHECK(taken[i] != block);
    }
    CHECK(!rcumalloc_poll(cookie));
    CHECK(filled(block, SIZE, 1));
    rcumalloc_reader_unlock(self);
    CHECK(!rcumalloc_read_held());
    rcumalloc_cond_synchronize(cookie);
    for (int i = 0; i < TAKEN; i++) {
        free(taken[i]);
    }
}

static void *in_a_thread(void *others) {
    rcumalloc_reader *self = rcumalloc_reader_self();
    CHECK(self != others && self == rcumalloc_reader_self());
    hold(self);
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(rcumalloc_present());
    rcumalloc_reader *self = rcumalloc_reader_self();
    CHECK(self != NULL && self == rcumalloc_reader_self());
    if (argc > 1 && strcmp(argv[1], "unbalanced") == 0) {
        rcumalloc_reader_lock(self);
        rcumalloc_reader_unlock(self);
        rcumalloc_reader_unlock(self);
        return 0;
    }
    hold(self);
    join(start(in_a_thread, self));
    hold(self);

    rcumalloc_reader_lock(self);
    pid_t child = fork();
    CHECK(child >= 0);
    CHECK(rcumalloc_read_held() && self == rcumalloc_reader_self());
    rcumalloc_reader_unlock(self);
    CHECK(!rcumalloc_read_held());
    rcumalloc_synchronize();
    hold(self);
    join(start(in_a_thread, self));
    if (child == 0) {
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    /* More sections than a reader opens between two announcements of its own. */
    for (int i = 0; i < 5000; i++) {
        rcumalloc_reader_lock(self);
        rcumalloc_reader_unlock(self);
    }
    CHECK(!rcumalloc_read_held());
    PRINT("periods", stats().periods_completed);
}
