/* Prints the pages of anonymous memory that a program holds after its first malloc. */
#include <fcntl.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char smaps[4096];

int main(void) {
    char *volatile block = malloc(100);
    block[0] = 1;
    long kib = 0;
    int fd = open("/proc/self/smaps_rollup", O_RDONLY);
    smaps[read(fd, smaps, sizeof smaps - 1)] = 0;
    char *line = strstr(smaps, "Anonymous:");
    if (line) kib = atol(line + strlen("Anonymous:"));
    printf("%ld\n", kib / 4);
    return 0;
}
