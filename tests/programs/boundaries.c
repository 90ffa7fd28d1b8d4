/* A reader opens a section, sees a block, and main frees the block while the magazine it goes to holds
 * `before` blocks whose own grace periods have passed already. Then main frees and allocates as much as
 * it can: the block may not be given out while the section lasts, whatever the magazine's place in its
 * life: just begun, half full, about to be stamped, just stamped; and must be given out afterwards. */
#include "victim.h"
#include <semaphore.h>

static sem_t open_section, is_open, close_section, is_closed;

static void *read_when_asked(void *unused) {
    for (;;) {
        sem_wait(&open_section);
        rcumalloc_read_lock();
        sem_post(&is_open);
        sem_wait(&close_section);
        rcumalloc_read_unlock();
        sem_post(&is_closed);
    }
    return unused;
}

enum { MANY = 600 };

/* Turns magazines over and looks for `wanted` among what is given out. */
static bool given_out(size_t size, void *wanted, int turns) {
    void *block[MANY];
    bool found = false;
    for (int turn = 0; turn < turns; turn++) {
        int many = size > 4096 ? 60 : MANY;
        for (int i = 0; i < many; i++) {
            block[i] = malloc(size);
            CHECK(block[i] != NULL);
            found |= block[i] == wanted;
        }
        for (int i = 0; i < many; i++) {
            free(block[i]);
        }
    }
    return found;
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    int most = atoi(argv[1]);
    sem_init(&open_section, 0, 0);
    sem_init(&is_open, 0, 0);
    sem_init(&close_section, 0, 0);
    sem_init(&is_closed, 0, 0);
    start(read_when_asked, NULL);
    static const size_t sizes[] = {64, 1000, 20000, 100000};
    int early = 0, late = 0, cases = 0; /* late, cases: of small blocks */
    for (unsigned s = 0; s < 4; s++) {
        size_t size = sizes[s];
        given_out(size, NULL, 20); /* magazines grow to their full size */
        for (int before = 0; before <= most; before += size > 4096 ? 3 : 1) {
            for (int i = 0; i < before; i++) {
                free(malloc(size));
            }
            void *block = malloc(size), *filler[8];
            for (int i = 0; i < 8; i++) {
                filler[i] = malloc(size);
            }
            /* What was freed so far needs no more waiting. */
            rcumalloc_synchronize_expedited();
            sem_post(&open_section);
            sem_wait(&is_open);
            free(block);
            for (int i = 0; i < 8; i++) {
                free(filler[i]);
            }
            early += given_out(size, block, 2);
            sem_post(&close_section);
            sem_wait(&is_closed);
            rcumalloc_barrier();
            if (size < 4096) { /* of large memory the heap may choose another piece */
                late += given_out(size, block, 2) || given_out(size, block, 30);
                cases++;
            }
        }
    }
    PRINT("cases", cases);
    PRINT("early", early);
    PRINT("late", late);
    PRINT("leaked", rss_kib() > 200 * 1024);
}
