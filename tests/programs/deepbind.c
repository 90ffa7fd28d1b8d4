/* `deepbind PLUGIN MODE ACTION`: a plug-in opened with RTLD_DEEPBIND (or without) hands us libc's
 * block to free, or gets ours. */
#include "victim.h"

int main(int argc, char **argv) {
    CHECK(argc == 4 && rcumalloc_present());
    int deep = strcmp(argv[2], "deep") == 0 ? RTLD_DEEPBIND : 0;
    void *plugin = dlopen(argv[1], RTLD_NOW | deep);
    CHECK(plugin != NULL);
    bool copies = strcmp(argv[3], "plugin_copies") == 0;
    char *(*make)(void) = (char *(*)(void))dlsym(plugin, copies ? "plugin_copy" : "plugin_make");
    void (*release)(void *) = (void (*)(void *))dlsym(plugin, "plugin_free");
    CHECK(make != NULL && release != NULL);
    if (strcmp(argv[3], "ours_frees") == 0) {
        char *block = make();
        dprintf(1, "address %#llx\n", (unsigned long long)(uintptr_t)block);
        free(block);
    } else if (strcmp(argv[3], "plugin_frees") == 0) {
        /* libc looks at the 16 bytes before the block: make them somebody's zeros. */
        char *block[10];
        for (int i = 0; i < 10; i++) {
            block[i] = calloc(1, 64);
        }
        release(block[5]);
    } else {
        char *block = make();
        CHECK(strcmp(block, "from the plug-in") == 0);
        release(block);
    }
    exercise(1, 100);
}
