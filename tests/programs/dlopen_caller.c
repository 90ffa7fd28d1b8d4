/* `dlopen_caller OPENER`: who calls dlopen decides what is found. The library OPENER has a RUNPATH, on
 * which libinner.so lies; nobody else finds that by its name. Before main, too; and errors are as without
 * the library. */
#include "victim.h"

static void *early;
static void before_everybody(void) { early = dlopen("libm.so.6", RTLD_NOW | RTLD_DEEPBIND); }
__attribute__((section(".preinit_array"), used)) static void (*const preinit)(void) = before_everybody;

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    CHECK(early != NULL && dlsym(early, "cos") != NULL);
    for (int turn = 0; turn < 2; turn++) {
        errno = 77;
        CHECK(dlopen(NULL, RTLD_NOW | RTLD_DEEPBIND) == dlopen(NULL, RTLD_LAZY) && errno == 77);
        CHECK(dlerror() == NULL);
        CHECK(dlopen("libinner.so", RTLD_NOW | RTLD_DEEPBIND) == NULL);
        const char *said = dlerror();
        CHECK(said != NULL && strstr(said, "libinner.so: cannot open shared object file") == said);
        CHECK(dlerror() == NULL);
        CHECK(dlmopen(LM_ID_BASE, "libinner.so", RTLD_NOW) == NULL && dlerror() != NULL);
        void *opener = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
        CHECK(opener != NULL);
        void *(*open_inner)(bool) = (void *(*)(bool))dlsym(opener, "open_inner");
        CHECK(open_inner != NULL);
        for (int in_base = 0; in_base < 2; in_base++) {
            void *inner = open_inner(in_base != 0);
            CHECK(inner != NULL && dlerror() == NULL);
            char *(*make)(void) = (char *(*)(void))dlsym(inner, "plugin_make");
            CHECK(make != NULL);
            free(make());
            CHECK(dlclose(inner) == 0);
        }
        CHECK(dlclose(opener) == 0);
    }
    dprintf(1, "done\n");
}
