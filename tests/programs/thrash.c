/* `thrash FILE SECONDS`: writes through a mapping larger than the control group it runs in, again and again:
 * pressure that is real. The file is made fresh, so its pages are charged to this group. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    const size_t size = (size_t)256 << 20;
    if (argc != 3) {
        return 2;
    }
    int file = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, (off_t)size) != 0 || unlink(argv[1]) != 0) {
        return 1;
    }
    volatile char *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (bytes == MAP_FAILED) {
        return 1;
    }
    for (time_t end = time(NULL) + atoi(argv[2]); time(NULL) < end;) {
        for (size_t at = 0; at < size; at += 4096) {
            bytes[at]++;
        }
    }
    return 0;
}
