/* unshare(CLONE_NEWUSER) and setns refuse a process with threads: the library must not have made one
 * in a process that has none. Prints what the kernel says. */
#include "victim.h"

int main(void) {
    exercise(1, 20000);
    for (int i = 0; i < 200; i++) {
        free(malloc(1 << 20));
    }
    malloc_trim(0);
    PRINT("threads", thread_count());
    int self = open("/proc/self/ns/user", O_RDONLY);
    dprintf(1, "unshare %s\n", unshare(CLONE_NEWUSER) == 0 ? "ok" : strerror(errno));
    dprintf(1, "setns %s\n", setns(self, CLONE_NEWUSER) == 0 ? "ok" : strerror(errno));
    close(self);
    exercise(2, 20000);
    PRINT("threads_after", thread_count());
}
