/* `watcher WHAT`: the library's own thread. Each WHAT prints what it found; the tests know what is right.
 * The heap is made large enough for a watcher by `grow`. */
#include "victim.h"
#include <dirent.h>
#include <stdatomic.h>
#include <sys/prctl.h>

static atomic_bool stop;

static void *idle(void *unused) {
    free(malloc(100));
    while (!atomic_load(&stop)) {
        sleep_ms(5);
    }
    return unused;
}

/* Past 16 MiB, with slow paths enough. */
static void grow(void) {
    void *block[64];
    for (int i = 0; i < 64; i++) {
        block[i] = malloc(512 << 10);
        CHECK(block[i] != NULL);
        memset(block[i], 1, 512 << 10);
    }
    for (int i = 0; i < 64; i++) {
        free(block[i]);
    }
}

/* The watcher's thread number, 0 if there is none; and how many threads there are. */
static int find(int *threads) {
    int found = 0, count = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL);
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        if (task->d_name[0] == '.') {
            continue;
        }
        char path[300], name[64] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || read(fd, name, sizeof name - 1) <= 0) {
            count -= 1; /* gone meanwhile */
        }
        close(fd);
        count++;
        if (strcmp(name, "rcumalloc\n") == 0) {
            found = atoi(task->d_name);
        }
    }
    closedir(tasks);
    if (threads != NULL) {
        *threads = count;
    }
    return found;
}

static int wait_for_watcher(void) {
    const char *sources = getenv("RCUMALLOC_PRESSURE");
    bool expected = sources == NULL || strcmp(sources, "off") != 0;
    for (int i = 0; i < (expected ? 400 : 40); i++) {
        int found = find(NULL);
        if (found != 0) {
            sleep_ms(100); /* its first moments are over */
            return found;
        }
        grow();
        sleep_ms(5);
    }
    return 0;
}

static void print_field(int task, const char *name) {
    char path[100], line[300];
    snprintf(path, sizeof path, "/proc/self/task/%d/status", task);
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            dprintf(1, "%s", line);
        }
    }
    fclose(file);
}

static void print_descriptors(const char *what, int task) {
    char path[100];
    int count = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/fd", task);
    DIR *fds = opendir(path);
    if (fds == NULL) {
        dprintf(1, "%s unreadable\n", what);
        return;
    }
    for (struct dirent *fd; (fd = readdir(fds)) != NULL;) {
        count += fd->d_name[0] != '.';
    }
    closedir(fds);
    PRINT(what, count);
}

static void stop_idle(pthread_t thread) {
    atomic_store(&stop, true);
    join(thread);
    atomic_store(&stop, false);
}

/* At once as for the watcher; libc's join returns a little before the kernel has forgotten its thread. */
static void single_threaded_again(void) {
    int threads = 0, watcher = find(&threads);
    for (int i = 0; i < 2000 && watcher == 0 && threads > 1; i++) {
        sleep_ms(1);
        watcher = find(&threads);
    }
    PRINT("watcher_after", watcher != 0);
    PRINT("threads_after", threads);
}

static void life(void) {
    grow();
    PRINT("solo", find(NULL) != 0);
    print_descriptors("descriptors_before", getpid());
    pthread_t thread = start(idle, NULL);
    int watcher = wait_for_watcher();
    PRINT("watcher", watcher != 0);
    if (watcher != 0) {
        print_field(watcher, "SigBlk");
        print_field(watcher, "Uid");
        print_field(watcher, "Gid");
        print_field(watcher, "CapPrm");
        print_field(watcher, "CapEff");
        char path[100], cwd[300] = "";
        snprintf(path, sizeof path, "/proc/self/task/%d/cwd", watcher);
        dprintf(1, "cwd %s\n", readlink(path, cwd, sizeof cwd - 1) > 0 ? cwd : strerror(errno));
    }
    char own[300];
    CHECK(getcwd(own, sizeof own) != NULL);
    dprintf(1, "own_cwd %s\n", own);
    PRINT("dumpable", prctl(PR_GET_DUMPABLE));
    print_descriptors("descriptors_after", getpid());
    stop_idle(thread);
    single_threaded_again();
}

/* Each round once its thread is gone the process must be alone. */
static void unshare_joined(void) {
    pthread_t thread = start(idle, NULL);
    PRINT("watcher", wait_for_watcher() != 0);
    stop_idle(thread);
    /* libc's join returns a little before the kernel has forgotten the thread, on any malloc. */
    int error = 0;
    for (int i = 0; i < 100; i++) {
        error = unshare(CLONE_NEWUSER) == 0 ? 0 : errno;
        if (error != EINVAL) {
            break;
        }
        sleep_ms(1);
    }
    dprintf(1, "unshare %s\n", error == 0 ? "ok" : strerror(error));
    single_threaded_again();
}

static void forks(void) {
    pthread_t thread = start(idle, NULL);
    PRINT("watcher", wait_for_watcher() != 0);
    for (int i = 0; i < 50; i++) {
        pid_t child = fork();
        if (child == 0) {
            grow();
            int threads = 0;
            CHECK(find(&threads) == 0 && threads == 1);
            if (i % 10 == 0) { /* on demand again */
                pthread_t own = start(idle, NULL);
                CHECK(wait_for_watcher() != 0);
                stop_idle(own);
                CHECK(find(NULL) == 0);
            }
            exit(0);
        }
        grow();
        reap(child);
    }
    stop_idle(thread);
    single_threaded_again();
}

/* The last thread of a process whose main has called pthread_exit. */
static void *exit_later(void *other) {
    PRINT("watcher", wait_for_watcher() != 0);
    stop_idle((pthread_t)other);
    PRINT("watcher_after", find(NULL) != 0);
    return NULL;
}

static void *exit_raw(void *unused) {
    CHECK(wait_for_watcher() != 0);
    dprintf(1, "watcher 1\n");
    sleep_ms(100);
    syscall(SYS_exit, 0); /* libc is not told */
    return unused;
}

static void credentials(void) {
    pthread_t thread = start(idle, NULL);
    int watcher = wait_for_watcher();
    PRINT("watcher", watcher != 0);
    CHECK(setgid(12345) == 0 && setuid(12345) == 0);
    int threads = 0, root = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL);
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        char path[300], line[300];
        snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        FILE *file = task->d_name[0] != '.' ? fopen(path, "r") : NULL;
        if (file == NULL) {
            continue;
        }
        threads++;
        while (fgets(line, sizeof line, file) != NULL) {
            root += strncmp(line, "Uid:\t0", 6) == 0 || strncmp(line, "Gid:\t0", 6) == 0;
            root += strncmp(line, "CapPrm:", 7) == 0 && strtoull(line + 7, NULL, 16) != 0;
        }
        fclose(file);
    }
    closedir(tasks);
    PRINT("threads", threads);
    PRINT("privileged", root);
    stop_idle(thread);
}

/* A daemon that uses every number for itself while the watcher works. */
static void descriptors(void) {
    int ends[2];
    CHECK(pipe(ends) == 0 && fcntl(ends[0], F_DUPFD, 950) == 950);
    pthread_t thread = start(idle, NULL);
    PRINT("watcher", wait_for_watcher() != 0);
    int out = fcntl(1, F_DUPFD, 900);
    for (int fd = 0; fd < 900; fd++) {
        close(fd);
    }
    char name[] = "/tmp/watcher-XXXXXX";
    int file = mkstemp(name);
    CHECK(file == 0);
    unlink(name);
    for (int fd = 1; fd < 40; fd++) {
        CHECK(dup(file) == fd);
    }
    for (int i = 0; i < 30; i++) {
        grow();
        sleep_ms(50);
    }
    dprintf(out, "written %ld\n", (long)lseek(file, 0, SEEK_END));
    /* The other end of the pipe was among those closed: the watcher holds no copy of it. */
    char byte;
    CHECK(fcntl(950, F_SETFL, O_NONBLOCK) == 0);
    dprintf(out, "eof %d\n", read(950, &byte, 1) == 0);
    stop_idle(thread);
}

static void *churn(void *unused) {
    grow();
    return unused;
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    const char *what = argv[1];
    if (strcmp(what, "life") == 0) {
        life();
    } else if (strcmp(what, "unshare") == 0) {
        unshare_joined();
    } else if (strcmp(what, "forks") == 0) {
        forks();
    } else if (strcmp(what, "exit") == 0) {
        start(idle, NULL);
        PRINT("watcher", wait_for_watcher() != 0);
        exit(7);
    } else if (strcmp(what, "exec") == 0) {
        start(idle, NULL);
        PRINT("watcher", wait_for_watcher() != 0);
        print_descriptors("descriptors_before", getpid());
        execl("/proc/self/exe", argv[0], "executed", NULL);
    } else if (strcmp(what, "executed") == 0) {
        single_threaded_again();
        print_descriptors("descriptors", getpid());
        return 5;
    } else if (strcmp(what, "pthread_exit") == 0) {
        pthread_t other = start(idle, NULL);
        start(exit_later, (void *)other);
        pthread_exit(NULL);
    } else if (strcmp(what, "raw_exit") == 0) {
        start(exit_raw, NULL);
        syscall(SYS_exit, 0);
    } else if (strcmp(what, "credentials") == 0) {
        credentials();
    } else if (strcmp(what, "descriptors") == 0) {
        descriptors();
    } else if (strcmp(what, "once") == 0) {
        start(idle, NULL);
        grow();
        start(idle, NULL);
        grow();
        PRINT("watcher", find(NULL) != 0);
    } else if (strcmp(what, "churn") == 0) {
        for (int i = 0; i < 300; i++) {
            join(start(churn, NULL));
        }
        single_threaded_again();
    } else {
        return 2;
    }
    return 0;
}
