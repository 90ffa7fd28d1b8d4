// flags: -shared -fPIC
/* Opened with RTLD_DEEPBIND its calls bind to libc's malloc and free. */
#include <stdlib.h>
#include <string.h>
char *plugin_make(void) { return strcpy(malloc(20), "from the plug-in"); }
/* strdup is libc's, but the malloc it calls is the preloaded one. */
char *plugin_copy(void) { return strdup("from the plug-in"); }
void plugin_free(void *block) { free(block); }
