// flags: -shared -fPIC
/* A kernel with larger pages, as far as getauxval tells: AT_PAGESZ is LIE. */
#include <elf.h>
#include <fcntl.h>
#include <unistd.h>

#ifndef LIE
#define LIE 65536
#endif

unsigned long getauxval(unsigned long type) {
    if (type == AT_PAGESZ) {
        return LIE;
    }
    Elf64_auxv_t entry = {0};
    unsigned long value = 0;
    int fd = open("/proc/self/auxv", O_RDONLY | O_CLOEXEC);
    while (read(fd, &entry, sizeof entry) == sizeof entry && entry.a_type != AT_NULL) {
        if (entry.a_type == type) {
            value = entry.a_un.a_val;
        }
    }
    close(fd);
    return value;
}
