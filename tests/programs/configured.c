/* Says what is in force, and that no descriptor was left open. */
#include "victim.h"

int main(void) {
    static const char *const names[] = {"RCUMALLOC_BUDGET",   "RCUMALLOC_GP_AGE_MS", "RCUMALLOC_BACKOFF_MS",
                                        "RCUMALLOC_STALL_MS", "RCUMALLOC_ON_ERROR",  "RCUMALLOC_LIMIT",
                                        "RCUMALLOC_HARD_LIMIT"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char value[64];
        if (rcumalloc_get(names[i], value, sizeof value) != 0) {
            dprintf(1, "%s %s\n", names[i] + strlen("RCUMALLOC_"), value);
        }
    }
    int next = open("/dev/null", O_RDONLY);
    dprintf(1, "next descriptor %d\n", next);
    return 0;
}
