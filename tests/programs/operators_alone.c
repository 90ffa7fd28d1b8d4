/* `operators_alone nothrow|plain`: a program without a C++ runtime that calls C++'s operators, as a runtime
 * of another language may. Past the hard limit the nothrow forms return null; a plain one cannot throw. */
#include "victim.h"

#define WEAK __attribute__((weak))

WEAK void *_Znwm(size_t);
WEAK void *_ZnwmRKSt9nothrow_t(size_t, const void *);
WEAK void *_ZnamRKSt9nothrow_t(size_t, const void *);
WEAK void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t, size_t, const void *);
WEAK void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t, size_t, const void *);
WEAK void _ZdlPv(void *);

enum { ALIGN = 64, MOST = 4096 };

static const char nothrow;

/* One of the nothrow forms. */
static void *get(int form, size_t size) {
    switch (form) {
    case 0:
        return _ZnwmRKSt9nothrow_t(size, &nothrow);
    case 1:
        return _ZnamRKSt9nothrow_t(size, &nothrow);
    case 2:
        return _ZnwmSt11align_val_tRKSt9nothrow_t(size, ALIGN, &nothrow);
    default:
        return _ZnamSt11align_val_tRKSt9nothrow_t(size, ALIGN, &nothrow);
    }
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    if (strcmp(argv[1], "plain") == 0) {
        return _Znwm((size_t)1 << 62) == NULL;
    }
    static void *blocks[MOST];
    int failed = 0;
    for (int form = 0; form < 4; form++) {
        for (size_t size = 100; size <= 1000000; size *= 100) {
            CHECK(get(form, (size_t)1 << 62) == NULL);
            int count = 0;
            while (count < MOST && (blocks[count] = get(form, size)) != NULL) {
                count++;
            }
            failed += count < MOST;
            while (count > 0) {
                _ZdlPv(blocks[--count]);
            }
        }
    }
    PRINT("failed", failed);
}
