// flags: -fno-stack-protector
/* `filtered ANSWER PROGRAM ARGS…`: runs a program whose membarrier calls are answered by a filter:
 * ANSWER is an errno, or 0 for a filter that says yes and does nothing. */
#include "victim.h"
#include "filter.h"

int main(int argc, char **argv) {
    CHECK(argc > 2);
    answer_call(SYS_membarrier, atoi(argv[1]));
    execv(argv[2], argv + 2);
    CHECK(!"execv");
}
