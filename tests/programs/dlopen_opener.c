// flags: -shared -fPIC -Wl,--enable-new-dtags -Wl,-rpath,$ORIGIN/opened
/* Finds libinner.so beside itself. */
#include <dlfcn.h>
#include <stdbool.h>
void *open_inner(bool in_base) {
    int flags = RTLD_NOW | RTLD_DEEPBIND;
    void *inner = in_base ? dlmopen(LM_ID_BASE, "libinner.so", flags) : dlopen("libinner.so", flags);
    return inner;
}
