/* A program that is linked with the library: says whether it is there, and whose block malloc gives. */
#include <rcumalloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
    char *volatile block = malloc(100);
    char *volatile copy = strdup("libc's own calls, too");
    int present = rcumalloc_present();
    int ours = present && rcumalloc_owner(block, NULL, 0) && rcumalloc_owner(copy, NULL, 0);
    printf("version %s, %s\n", present ? rcumalloc_version() : "none",
           ours ? "our blocks" : "another's blocks");
    rcumalloc_read_lock();
    free(block);
    rcumalloc_read_unlock();
    free(copy);
    return 0;
}
