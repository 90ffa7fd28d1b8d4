/* unshare(CLONE_NEWUSER) and setns refuse a process with threads: the library must not have made one
 * in a process that has none. Prints what the kernel says. */
#include "victim.h"
#include <dirent.h>

static int threads(void) {
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL);
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        count += task->d_name[0] != '.';
    }
    closedir(tasks);
    return count;
}

int main(void) {
    exercise(1, 20000);
    for (int i = 0; i < 200; i++) {
        free(malloc(1 << 20));
    }
    malloc_trim(0);
    PRINT("threads", threads());
    int self = open("/proc/self/ns/user", O_RDONLY);
    dprintf(1, "unshare %s\n", unshare(CLONE_NEWUSER) == 0 ? "ok" : strerror(errno));
    dprintf(1, "setns %s\n", setns(self, CLONE_NEWUSER) == 0 ? "ok" : strerror(errno));
    close(self);
    exercise(2, 20000);
    PRINT("threads_after", threads());
}
