// flags: -shared -fPIC
/* A library that takes SIZE bytes of static thread-local storage. */
__attribute__((tls_model("initial-exec"))) static _Thread_local volatile char eaten[SIZE];
char tls_eater(void) { return eaten[0]++; }
