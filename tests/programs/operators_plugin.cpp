// flags: -shared -fPIC
/* Opened by a program in C, which has no C++ of its own (operators_host.c): `fails` tells whether every
 * form of `new` fails as it should. */
#include <new>
#include <stdexcept>
#include <string>

template <class F> static bool throws(F run) {
    try {
        run();
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

extern "C" bool works(size_t size) {
    ::operator delete(::operator new(size), size);
    ::operator delete[](::operator new[](size, std::nothrow), size);
    ::operator delete(::operator new(size, std::align_val_t(64)), size, std::align_val_t(64));
    return std::string(size, 'x').size() == size;
}

extern "C" bool fails(size_t size) {
    std::align_val_t a{64};
    return throws([=] { ::operator delete(::operator new(size)); }) &&
           throws([=] { ::operator delete[](::operator new[](size)); }) &&
           throws([=] { ::operator delete(::operator new(size, a), a); }) &&
           throws([=] { std::string().reserve(size / 2); }) &&
           ::operator new(size, std::nothrow) == nullptr &&
           ::operator new[](size, a, std::nothrow) == nullptr;
}
