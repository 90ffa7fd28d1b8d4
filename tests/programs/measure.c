/* `measure PROGRAM ARGS…`: runs it and prints its resident memory as it ends, counted page by page by
 * the kernel, and its peak. The program is stopped where it exits, while its memory is still there. */
#include "victim.h"
#include <sys/ptrace.h>

static long rollup_kib(pid_t pid, const char *name) {
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name[0] == 'V' ? "status" : "smaps_rollup");
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    ssize_t n = read(fd, text, sizeof text - 1);
    CHECK(n > 0);
    close(fd);
    text[n] = 0;
    const char *line = strstr(text, name);
    CHECK(line != NULL);
    return strtol(line + strlen(name), NULL, 10);
}

int main(int argc, char **argv) {
    CHECK(argc > 1);
    const char *preload = getenv("MEASURE_PRELOAD");
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
        if (preload != NULL) {
            setenv("LD_PRELOAD", preload, 1);
        }
        execv(argv[1], argv + 1);
        _exit(127);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
    CHECK(ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL) == 0);
    CHECK(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
    while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
        int stop = WSTOPSIG(status);
        if (status >> 8 == (SIGTRAP | (PTRACE_EVENT_EXIT << 8))) {
            PRINT("rss_kib", rollup_kib(pid, "Rss:"));
            PRINT("dirty_kib", rollup_kib(pid, "Private_Dirty:"));
            PRINT("hwm_kib", rollup_kib(pid, "VmHWM:"));
            stop = 0;
        }
        CHECK(ptrace(PTRACE_CONT, pid, NULL, stop) == 0);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
