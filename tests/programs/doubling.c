/* Vectors that double in turn, in two threads: how often does one that is large already have to move? */
#include "victim.h"

enum { VECTORS = 16, LEAST = 32 << 10, MOST = 1 << 20, ROUNDS = 40 };

static _Atomic long moved, stayed;

static void *double_in_turn(void *unused) {
    for (int round = 0; round < ROUNDS; round++) {
        char *vectors[VECTORS];
        for (int i = 0; i < VECTORS; i++) {
            /* Small at first, so that growing makes it large. */
            vectors[i] = realloc(malloc(LEAST / 4), LEAST);
            CHECK(vectors[i] != NULL);
            memset(vectors[i], i, LEAST);
        }
        for (size_t size = 2 * LEAST; size <= MOST; size *= 2) {
            for (int i = 0; i < VECTORS; i++) {
                char *was = vectors[i];
                vectors[i] = realloc(was, size);
                CHECK(vectors[i] != NULL && vectors[i][0] == i && vectors[i][size / 2 - 1] == i);
                memset(vectors[i] + size / 2, i, size / 2);
                *(vectors[i] == was ? &stayed : &moved) += 1;
            }
        }
        for (int i = 0; i < VECTORS; i++) {
            free(vectors[i]);
        }
    }
    return unused;
}

int main(void) {
    CHECK(rcumalloc_present());
    pthread_t other = start(double_in_turn, NULL);
    double_in_turn(NULL);
    join(other);
    PRINT("moved", moved);
    PRINT("stayed", stayed);
    PRINT("hwm_kib", hwm_kib());
}
