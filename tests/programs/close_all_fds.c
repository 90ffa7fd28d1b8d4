/* A daemon that closes every descriptor and uses the numbers for its own files: the library holds none
 * of them and writes into none of them. */
#include "victim.h"

static int open_descriptors(void) {
    int count = 0;
    for (int fd = 0; fd < 1024; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    exercise(1, 10000);
    dprintf(1, "descriptors %d\n", open_descriptors());
    int out = fcntl(1, F_DUPFD, 900), err = fcntl(2, F_DUPFD, 901);
    for (int fd = 0; fd < 900; fd++) {
        close(fd);
    }
    int file[20];
    for (int i = 0; i < 20; i++) {
        file[i] = open(argv[1], O_RDWR | O_CREAT | O_APPEND, 0600);
        if (file[i] != i) {
            dprintf(err, "descriptor %d was taken: got %d\n", i, file[i]);
            return 1;
        }
    }
    pthread_t thread = start((void *(*)(void *))malloc_trim, NULL);
    exercise(2, 50000);
    join(thread);
    malloc_trim(0);
    if (rcumalloc_present()) {
        rcumalloc_synchronize_expedited();
    }
    pid_t child = fork();
    if (child == 0) {
        exercise(3, 10000);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    off_t written = lseek(file[5], 0, SEEK_END);
    dprintf(out, "status %d\nwritten %ld\n", status, (long)written);
    return 0;
}
