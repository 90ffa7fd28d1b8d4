/* `deepbind PLUGIN MODE ACTION`: a plug-in opened plainly, with RTLD_DEEPBIND, or with it by libc's own
 * dlopen, past the library's, hands us its block to free, or gets ours. */
#include "victim.h"

typedef void *open_function(const char *, int);

/* libc's own, whatever stands before it. */
static open_function *libc_dlopen(void) {
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    CHECK(libc != NULL);
    open_function *found = (open_function *)dlsym(libc, "dlopen");
    CHECK(found != NULL && found != dlopen);
    return found;
}

int main(int argc, char **argv) {
    CHECK(argc == 4 && rcumalloc_present());
    void *plugin;
    if (strcmp(argv[2], "past") == 0) {
        plugin = libc_dlopen()(argv[1], RTLD_NOW | RTLD_DEEPBIND);
    } else if (strcmp(argv[2], "base") == 0) {
        plugin = dlmopen(LM_ID_BASE, argv[1], RTLD_NOW | RTLD_DEEPBIND);
    } else if (strcmp(argv[2], "apart") == 0) {
        plugin = dlmopen(LM_ID_NEWLM, argv[1], RTLD_NOW | RTLD_DEEPBIND);
    } else {
        plugin = dlopen(argv[1], RTLD_NOW | (strcmp(argv[2], "deep") == 0 ? RTLD_DEEPBIND : 0));
    }
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
