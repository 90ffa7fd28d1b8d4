/* `enomem data|as|calls`: memory runs out at any point. `data`, `as`: the limit (RLIMIT_DATA, RLIMIT_AS)
 * comes down to what is used and a little more; `calls`: a filter makes every mmap, mprotect and
 * madvise fail. Calls fail with ENOMEM or work; free always works; what is live stays intact; and when
 * memory is there again, so is the heap. */
#include "victim.h"
#include "filter.h"

enum { BLOCKS = 20000 };
static void *block[BLOCKS];
static size_t size[BLOCKS];
static unsigned long failures;

static void churn(uint64_t seed, int rounds) {
    for (int i = 0; i < rounds; i++) {
        unsigned at = next_random(&seed) % BLOCKS;
        if (block[at] != NULL) {
            CHECK(filled(block[at], size[at], at));
            if (next_random(&seed) % 8 == 0) {
                size_t next = next_random(&seed) % (next_random(&seed) % 64 == 0 ? 300000 : 3000) + 1;
                errno = 0;
                void *moved = realloc(block[at], next);
                if (moved != NULL) {
                    block[at] = moved;
                    size[at] = next;
                    fill(block[at], size[at], at);
                } else {
                    CHECK(errno == ENOMEM);
                    failures++;
                    CHECK(filled(block[at], size[at], at));
                }
                continue;
            }
            errno = 77;
            free(block[at]);
            CHECK(errno == 77);
            block[at] = NULL;
        } else {
            size[at] = next_random(&seed) % (next_random(&seed) % 64 == 0 ? 300000 : 3000) + 1;
            errno = 0;
            block[at] = i % 2 ? malloc(size[at]) : calloc(1, size[at]);
            if (block[at] == NULL) {
                CHECK(errno == ENOMEM);
                failures++;
            } else {
                fill(block[at], size[at], at);
            }
        }
    }
}

static void *churn_in_thread(void *unused) {
    uint64_t seed = 5;
    for (int i = 0; i < 3000; i++) {
        void *one = malloc(next_random(&seed) % 20000);
        free(one);
    }
    return unused;
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    struct rlimit most;
    bool calls = strcmp(argv[1], "calls") == 0;
    int resource = strcmp(argv[1], "as") == 0 ? RLIMIT_AS : RLIMIT_DATA;
    CHECK(getrlimit(resource, &most) == 0);
    pthread_t early = start(churn_in_thread, NULL); /* concurrent from here on */
    join(early);
    churn(1, 20000);
    if (calls) {
        answer_call(SYS_mprotect, ENOMEM);
        answer_call(SYS_mmap, ENOMEM);
        answer_call(SYS_madvise, ENOMEM);
        churn(2, 400000);
    } else {
        for (int step = 0; step < 40; step++) {
            long used = status_kib(resource == RLIMIT_AS ? "VmSize:" : "VmData:");
            struct rlimit limit = {(rlim_t)(used + step * 64) * 1024, most.rlim_max};
            CHECK(setrlimit(resource, &limit) == 0);
            churn(step + 2, 10000);
            pthread_t thread;
            if (pthread_create(&thread, NULL, churn_in_thread, NULL) == 0) {
                join(thread);
            }
            limit.rlim_cur = most.rlim_max;
            CHECK(setrlimit(resource, &limit) == 0);
        }
    }
    for (unsigned at = 0; at < BLOCKS; at++) {
        CHECK(block[at] == NULL || filled(block[at], size[at], at));
        free(block[at]);
        block[at] = NULL;
    }
    PRINT("failures", failures);
    failures = 0;
    churn(99, 30000);
    PRINT("failures_afterwards", failures);
    PRINT("bad_calls", stats().bad_calls);
}
