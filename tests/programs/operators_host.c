/* `operators_host PLUGIN`: a program in C that opens a plug-in in C++, whose runtime nobody else sees. */
#include "victim.h"

typedef bool function(size_t);

int main(int argc, char **argv) {
    CHECK(argc == 2);
    void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    CHECK(plugin != NULL);
    function *works = (function *)dlsym(plugin, "works"), *fails = (function *)dlsym(plugin, "fails");
    CHECK(works(100) && works(100000) && fails((size_t)1 << 62) && works(100));
    dprintf(1, "done\n");
}
