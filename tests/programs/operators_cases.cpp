/* `operators_cases CASE`: one case of C++'s operators.
 *
 * right: what a program may do, down to a polymorphic delete. wrong_*: a size or an alignment that the block
 * has not. With -DREPLACED the program has a `new` and a `delete` of its own, whose blocks begin with a head:
 * every other form must come to them (replaced). With -DREPLACED_NEW only `new` is its own, larger than
 * asked, and no size may be judged (larger). */
#include "victim.h"
#include <memory>
#include <new>
#include <string>

static void *announce(void *block) {
    dprintf(1, "address %#llx\n", (unsigned long long)(uintptr_t)block);
    return block;
}

static long replaced_news, replaced_deletes;
#ifdef REPLACED
void *operator new(size_t size) {
    char *block = (char *)malloc(size + 32);
    if (block == nullptr) {
        throw std::bad_alloc();
    }
    replaced_news++;
    return block + 32;
}
void operator delete(void *block) noexcept {
    if (block != nullptr) {
        replaced_deletes++;
        free((char *)block - 32);
    }
}
#elif defined(REPLACED_NEW)
void *operator new(size_t size) {
    void *block = malloc(size * 3 + 200);
    if (block == nullptr) {
        throw std::bad_alloc();
    }
    replaced_news++;
    return block;
}
#endif

static size_t opaque(size_t n) {
    __asm__("" : "+r"(n));
    return n;
}

struct Base {
    virtual ~Base() {}
    long one;
};
struct Derived : Base {
    ~Derived() override {}
    char many[3000];
};
struct Counted {
    ~Counted() { one = 0; }
    volatile long one;
};
struct alignas(128) Wide {
    char bytes[40000];
};

static void right(void) {
    for (int i = 0; i < 100; i++) {
        Base *base = new Derived;
        delete base;
        delete new Base;
        delete[] new Counted[i];
        delete new Wide;
        delete[] new Wide[i % 5 + 1];
        delete (Wide *)nullptr;
        for (size_t size : {0, 1, 24, 100, 1000, 3000, 16384, 16385, 100000, 3000000}) {
            ::operator delete(::operator new(size), size);
            ::operator delete[](::operator new[](size), size);
            ::operator delete(::operator new(size), (size_t)0); /* who does not know */
            for (size_t align : {8, 16, 64, 4096, 65536}) {
                std::align_val_t a{align};
                ::operator delete(::operator new(size, a), a);
                ::operator delete(::operator new(size, a), size, a);
                ::operator delete[](::operator new[](size, a), size, a);
                ::operator delete[](::operator new[](size, a, std::nothrow), a, std::nothrow);
                ::operator delete(::operator new(size, a, std::nothrow), a, std::nothrow);
                /* What a runtime of its own in some library makes of it: rounded up to the alignment. */
                ::operator delete(aligned_alloc(align, (size + align - 1) / align * align), size, a);
            }
            ::operator delete(::operator new(size, std::nothrow), std::nothrow);
            ::operator delete[](::operator new[](size, std::nothrow), std::nothrow);
        }
        ::operator delete(nullptr, (size_t)100);
        ::operator delete(nullptr, (size_t)100, std::align_val_t(64));
    }
    void *block = ::operator new(1000), *wide = ::operator new(1000, std::align_val_t(64));
    CHECK(replaced_news != 0 || malloc_usable_size(block) >= 1000);
    CHECK(malloc_usable_size(wide) >= 1000);
    ::operator delete(block, (size_t)1000);
    ::operator delete(wide, std::align_val_t(64));
    std::string grown;
    for (int i = 0; i < 100000; i++) {
        grown += (char)i;
    }
    CHECK(std::make_shared<std::string>(grown)->size() == 100000);
}

template <class F> static bool throws(F run) {
    try {
        run();
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

static int handled;
static void handler_that_throws() {
    handled++;
    throw std::bad_alloc();
}

/* A failure is thrown, through every form, and the new-handler is asked. */
static void failure(void) {
    size_t huge = opaque((size_t)1 << 62);
    std::align_val_t a{64};
    for (int i = 0; i < 2; i++) {
        CHECK(throws([=] { ::operator delete(::operator new(huge)); }));
        CHECK(throws([=] { ::operator delete[](::operator new[](huge)); }));
        CHECK(throws([=] { ::operator delete(::operator new(huge, a), a); }));
        CHECK(throws([=] { ::operator delete[](::operator new[](huge, a), a); }));
        CHECK(throws([=] { std::string().reserve(huge / 2); })); /* from inside the runtime */
        CHECK(::operator new(huge, std::nothrow) == nullptr &&
            ::operator new[](huge, std::nothrow) == nullptr);
        CHECK(::operator new(huge, a, std::nothrow) == nullptr &&
            ::operator new[](huge, a, std::nothrow) == nullptr);
        /* no alignment */
        CHECK(throws([] { ::operator delete(::operator new(8, std::align_val_t(opaque(48)))); }));
        std::set_new_handler(handler_that_throws);
    }
#ifndef REPLACED
    CHECK(handled >= 8);
#endif
    std::set_new_handler(nullptr);
}

/* All forms but the aligned ones, which stand on one of their own, came to what the program has. */
static void replaced(void) {
    long news = replaced_news, deletes = replaced_deletes;
    ::operator delete(::operator new(100), 100);
    ::operator delete[](::operator new[](100), 100);
    ::operator delete(::operator new(100, std::nothrow), std::nothrow);
    ::operator delete[](::operator new[](100, std::nothrow), std::nothrow);
    delete[] new Counted[3];
    delete new std::string(1000, 'x');
    CHECK(replaced_news == news + 7 && replaced_deletes == deletes + 7);
    right();
    failure();
}

static void larger(void) {
    long news = replaced_news;
    ::operator delete(::operator new(100), 100);
    ::operator delete[](::operator new[](100), 100);
    delete new Base;
    delete[] new Counted[3];
    ::operator delete(::operator new(20000), 20000);
    CHECK(replaced_news == news + 5);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
#define CASE(name) else if (strcmp(argv[1], name) == 0)
    if (0) {
    }
    CASE("right") { right(); }
    CASE("failure") { failure(); }
    CASE("replaced") { replaced(); }
    CASE("larger") { larger(); }
    CASE("wrong_size") { ::operator delete(announce(::operator new(100)), 200); }
    CASE("wrong_size_array") { ::operator delete[](announce(::operator new[](100)), 24); }
    CASE("wrong_size_large") { ::operator delete(announce(::operator new(100000)), 100001); }
    CASE("wrong_size_aligned") {
        ::operator delete(announce(::operator new(128, std::align_val_t(64))), 1000, std::align_val_t(64));
    }
    CASE("wrong_align") {
        void *first = ::operator new(256), *second = ::operator new(256);
        ::operator delete(announce((uintptr_t)first % 512 != 0 ? first : second), std::align_val_t(512));
    }
    else {
        CHECK(!"a case of that name");
    }
    dprintf(1, "done\n");
}
