// What gperftools' base asks of parts that its tests of malloc do without.

#include "config.h"

#include <gperftools/heap-checker.h>

extern "C" int RunningOnValgrind(void) {
    return 0;
}

void HeapLeakChecker::DoIgnoreObject(const void *) {
}
