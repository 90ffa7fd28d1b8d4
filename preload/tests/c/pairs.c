/* What tests/fast_paths.rs counts the instructions of.
 *
 *   pairs pair|order|large|huge|stay|call|handle solo|deferring BLOCKS
 *
 * pair: each block is freed before the next is allocated. order: 1000 are allocated, then freed in order.
 * large, huge: as pair, with 50,000 bytes and with a million. stay: a realloc that leaves its block. call,
 * handle: a read-side section each. */
#include "../../include/rcumalloc.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = 64, LARGE = 50000, HUGE = 1000000, ROW = 1000 };

static void *nothing(void *arg) { return arg; }

int main(int argc, char **argv) {
    static void *row[ROW];
    if (argc != 4) return 2;
    if (!strcmp(argv[2], "deferring")) { /* from the first second thread on */
        pthread_t thread;
        pthread_create(&thread, NULL, nothing, NULL);
        pthread_join(thread, NULL);
    }
    long blocks = atol(argv[3]);
    if (!strcmp(argv[1], "pair"))
        for (long i = 0; i < blocks; i++) free(malloc(SIZE));
    else if (!strcmp(argv[1], "large"))
        for (long i = 0; i < blocks; i++) free(malloc(LARGE));
    else if (!strcmp(argv[1], "huge"))
        for (long i = 0; i < blocks; i++) free(malloc(HUGE));
    else if (!strcmp(argv[1], "stay")) {
        row[0] = malloc(SIZE);
        for (long i = 0; i < blocks; i++) row[0] = realloc(row[0], SIZE - (i & 1));
    } else if (!strcmp(argv[1], "call"))
        for (long i = 0; i < blocks; i++) {
            rcumalloc_read_lock();
            rcumalloc_read_unlock();
        }
    else if (!strcmp(argv[1], "handle")) {
        rcumalloc_reader *self = rcumalloc_reader_self();
        for (long i = 0; i < blocks; i++) {
            rcumalloc_reader_lock(self);
            rcumalloc_reader_unlock(self);
        }
    } else
        for (long i = 0; i < blocks; i += ROW) {
            for (int j = 0; j < ROW; j++) row[j] = malloc(SIZE);
            for (int j = 0; j < ROW; j++) free(row[j]);
        }
    return 0;
}
