/* Options that are set while the program runs. */
#include "victim.h"

static bool is(const char *name, const char *expected) {
    char value[64] = "unchanged";
    size_t len = rcumalloc_get(name, value, sizeof value);
    return len == strlen(expected) && (len == 0 || strcmp(value, expected) == 0);
}

static uint64_t budget(void) {
    struct rcumalloc_stats stats;
    CHECK(rcumalloc_stats(&stats, sizeof stats));
    return stats.budget_bytes;
}

int main(void) {
    static const struct {
        const char *name, *good, *then, *bad;
    } options[] = {
        {"RCUMALLOC_GP_AGE_MS", "123", "123", "soon"},
        {"RCUMALLOC_BACKOFF_MS", "77", "77", "-1"},
        {"RCUMALLOC_STALL_MS", "5000", "5000", ""},
        {"RCUMALLOC_BUDGET", "3M", "3145728", "much"},
        {"RCUMALLOC_BUDGET", "50%", "50%", "0%"},
        {"RCUMALLOC_BUDGET", "3M", "3145728", "much"},
        {"RCUMALLOC_LIMIT", "1G", "1073741824", "50%"},
        {"RCUMALLOC_HARD_LIMIT", "8G", "8589934592", "0"},
        {"RCUMALLOC_ON_ERROR", "report", "report", "ignore"},
    };
    CHECK(is("RCUMALLOC_ON_ERROR", "abort") && is("RCUMALLOC_LIMIT", ""));
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        CHECK(rcumalloc_set(options[i].name, options[i].good));
        CHECK(is(options[i].name, options[i].then));
        CHECK(!rcumalloc_set(options[i].name, options[i].bad));
        CHECK(is(options[i].name, options[i].then));
    }
    CHECK(budget() == 3 << 20);
    /* Those that are for the start alone, and those that are none. */
    CHECK(!rcumalloc_set("RCUMALLOC_DEFER", "api") && !rcumalloc_set("RCUMALLOC", "1") &&
        !rcumalloc_set("", ""));
    CHECK(is("RCUMALLOC_DEFER", "") && is("", ""));
    char small[4] = {'x', 'x', 'x', 'x'};
    CHECK(rcumalloc_get("RCUMALLOC_LIMIT", small, 3) == 10 && strcmp(small, "10") == 0 && small[3] == 'x');
    CHECK(rcumalloc_get("RCUMALLOC_LIMIT", NULL, 0) == 10);
    /* A bad call is reported and survived, and then not. */
    void *volatile here = (void *)&here;
    free((void *)&here);
    dprintf(1, "went on\n");
    CHECK(rcumalloc_set("RCUMALLOC_ON_ERROR", "abort"));
    free((void *)&here);
    dprintf(1, "went on again\n");
    return 0;
}
