/* Starts a program and says what it cost. Small and static, for ru_maxrss would hand the starter's
 * memory down to the started: peak RSS is VmHWM, read while the program is stopped at its exit.
 *
 *   launch REPORT [-n TIMES] PROGRAM ARGS...
 *
 * Writes to the file REPORT: CPU seconds (user and system, waited-for children included), wall seconds,
 * VmHWM in KiB (with -n, where nothing is stopped: the greatest ru_maxrss of any process of its trees),
 * minor faults, wait status.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static long peak_kib(pid_t child) {
    char path[32], text[4096], *line;
    snprintf(path, sizeof path, "/proc/%d/status", child);
    int fd = open(path, O_RDONLY);
    ssize_t len = read(fd, text, sizeof text - 1);
    close(fd);
    if (len < 0) return 0;
    text[len] = 0;
    line = strstr(text, "VmHWM:");
    return line ? atol(line + 6) : 0;
}

/* Follows the child to its end; only its exit (and whatever signals it gets) stops it. */
static int follow(pid_t child, long *peak) {
    int status;
    for (;;) {
        if (waitpid(child, &status, __WALL) < 0) return -1;
        if (!WIFSTOPPED(status)) return status;
        int event = status >> 16, signal = WSTOPSIG(status);
        if (event == PTRACE_EVENT_EXIT) *peak = peak_kib(child);
        ptrace(PTRACE_CONT, child, 0, event ? 0 : signal);
    }
}

static int run(char **argv, int watched, long *peak) {
    pid_t child = vfork();
    if (child == 0) {
        if (watched) ptrace(PTRACE_TRACEME, 0, 0, 0);
        execvp(argv[0], argv);
        _exit(127);
    }
    int status;
    if (!watched) return waitpid(child, &status, 0) < 0 ? -1 : status;
    if (waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status)) return -1; /* the stop after exec */
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEEXIT | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL);
    ptrace(PTRACE_CONT, child, 0, 0);
    return follow(child, peak);
}

int main(int argc, char **argv) {
    int times = 0, first = 2;
    if (argc > 4 && !strcmp(argv[2], "-n")) times = atoi(argv[3]), first = 4;
    if (argc <= first) return 2;
    long peak = 0;
    int status = 0;
    double began = seconds();
    for (int i = 0; i < (times ? times : 1); i++) status |= run(argv + first, !times, &peak);
    double wall = seconds() - began;
    struct rusage use;
    getrusage(RUSAGE_CHILDREN, &use);
    if (times) peak = use.ru_maxrss; /* what it was handed down is our own: less than any program's */
    double cpu = use.ru_utime.tv_sec + use.ru_stime.tv_sec +
                 (use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e-6;
    FILE *report = fopen(argv[1], "w");
    fprintf(report, "%f %f %ld %ld %d\n", cpu, wall, peak, use.ru_minflt, status);
    return fclose(report) ? 2 : 0;
}
