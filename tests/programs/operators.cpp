/* C++'s operators, all forms: they come to malloc and free and throw as the standard says. */
#include "victim.h"
#include <memory>
#include <new>
#include <string>
#include <vector>

struct alignas(256) Wide {
    char bytes[512];
};

static int handler_calls;
static void handler() {
    if (++handler_calls == 3) {
        std::set_new_handler(nullptr);
    }
}

static size_t huge(size_t n) {
    __asm__("" : "+r"(n));
    return n;
}

int main() {
    CHECK(rcumalloc_present());
    for (int i = 0; i < 1000; i++) {
        delete new int(i);
        delete[] new int[i];
        delete new std::string(i, 'x');
        Wide *wide = new Wide, *wides = new Wide[3];
        CHECK((uintptr_t)wide % 256 == 0 && (uintptr_t)wides % 256 == 0);
        delete wide;
        delete[] wides;
        ::operator delete(::operator new(i), (size_t)i);
        ::operator delete(::operator new(i, std::nothrow), std::nothrow);
        ::operator delete(::operator new(i, std::align_val_t(64)), std::align_val_t(64));
        ::operator delete(::operator new(i, std::align_val_t(64)), (size_t)i, std::align_val_t(64));
        ::operator delete[](::operator new[](i, std::align_val_t(8192)), std::align_val_t(8192));
        auto shared = std::make_shared<std::vector<int>>(i);
        CHECK(shared->size() == (size_t)i);
    }
    bool thrown = false;
    try {
        ::operator delete(::operator new(huge((size_t)1 << 62)));
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    CHECK(thrown);
    CHECK(::operator new(huge((size_t)1 << 62), std::nothrow) == nullptr);
    CHECK(::operator new(huge((size_t)1 << 62), std::align_val_t(64), std::nothrow) == nullptr);
    std::set_new_handler(handler);
    thrown = false;
    try {
        ::operator delete(::operator new(huge((size_t)1 << 62)));
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    CHECK(thrown && handler_calls == 3);
    dprintf(1, "done\n");
}
