/* What strict overcommit (vm.overcommit_memory=2) would count of this process: its private mappings
 * that are or were writable, "ac" among their VmFlags. */
#include "victim.h"

int main(void) {
    exercise(1, 5000);
    FILE *maps = fopen("/proc/self/smaps", "r");
    CHECK(maps != NULL);
    char line[4096];
    unsigned long size = 0, accounted = 0;
    while (fgets(line, sizeof line, maps) != NULL) {
        sscanf(line, "Size: %lu", &size);
        if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " ac") != NULL) {
            accounted += size;
        }
    }
    fclose(maps);
    PRINT("accounted_kib", accounted);
}
