// flags: -Wl,-z,lazy
/* free(NULL) before anything of the library has run: from an IFUNC resolver while the loader still
 * relocates this program, and from the preinit array, which runs before every constructor. */
#include "victim.h"

static int calls_in_resolver;

static int answer(void) { return 42; }

static int (*resolve(void))(void) {
    free(NULL);
    calls_in_resolver++;
    return answer;
}
int resolved(void) __attribute__((ifunc("resolve")));

static void before_constructors(int argc, char **argv, char **envp) {
    (void)argc, (void)argv, (void)envp;
    free(NULL);
    CHECK(malloc_usable_size(NULL) == 0);
}
__attribute__((section(".preinit_array"), used)) static void (*preinit)(int, char **, char **) =
    before_constructors;

int main(void) {
    CHECK(rcumalloc_present());
    CHECK(resolved() == 42 && calls_in_resolver > 0);
    free(NULL);
    exercise(1, 1000);
    PRINT("bad_calls", stats().bad_calls);
}
