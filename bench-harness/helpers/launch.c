/* Starts a program and says what it cost.
 *
 *   launch GO RESULT PROGRAM ARGS...
 *
 * Tiny and static on purpose. A process's ru_maxrss begins with the peak of the image that called exec:
 * started by the harness, every program would seem to need the harness's memory. Started by this,
 * ru_maxrss is the program's own VmHWM (or that of the largest process it started and waited for).
 *
 * GO and RESULT are descriptors. The child's process id goes to RESULT at once; the child waits for a byte
 * on GO, so that the harness can attach counters before the program begins; at the end `struct result`
 * follows. The child leads a process group of its own, for the harness to kill at a timeout, and dies with
 * the launcher. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct result {
    int64_t wait_status, exec_errno, wall_ns, user_us, system_us, peak_kib;
    int64_t minor_faults, major_faults, voluntary, involuntary;
};

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int64_t micros(struct timeval time) { return time.tv_sec * 1000000LL + time.tv_usec; }

static void tell(int fd, const void *bytes, size_t size) {
    if (write(fd, bytes, size) != (ssize_t)size) _exit(111);
}

int main(int argc, char **argv) {
    if (argc < 4) return 111;
    int go = atoi(argv[1]), to = atoi(argv[2]), why[2];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fcntl(go, F_SETFD, FD_CLOEXEC);
    fcntl(to, F_SETFD, FD_CLOEXEC);
    if (pipe2(why, O_CLOEXEC)) return 111;
    pid_t child = fork();
    if (child < 0) return 111;
    if (child == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        char byte;
        if (read(go, &byte, 1) != 1) _exit(111);
        int64_t began = now();
        tell(why[1], &began, sizeof began);
        execvp(argv[3], argv + 3);
        int error = errno;
        tell(why[1], &error, sizeof error);
        _exit(127);
    }
    setpgid(child, child);
    close(why[1]);
    int64_t pid = child;
    tell(to, &pid, sizeof pid);
    /* The child says when it begins (this process may get the processor only when it is over), then why exec
     * failed or, by the pipe's end, that it did not. */
    struct result result = {0};
    int64_t began = 0;
    int error = 0;
    if (read(why[0], &began, sizeof began) != sizeof began) began = now();
    if (read(why[0], &error, sizeof error) == sizeof error) result.exec_errno = error;
    int status = 0;
    struct rusage use;
    while (wait4(child, &status, 0, &use) < 0 && errno == EINTR) {}
    result.wall_ns = now() - began;
    result.wait_status = status;
    result.user_us = micros(use.ru_utime), result.system_us = micros(use.ru_stime);
    result.peak_kib = use.ru_maxrss;
    result.minor_faults = use.ru_minflt, result.major_faults = use.ru_majflt;
    result.voluntary = use.ru_nvcsw, result.involuntary = use.ru_nivcsw;
    tell(to, &result, sizeof result);
    return 0;
}
