/* rcumalloc.hpp: rcumalloc.h for C++: guards for sections, C++26's <rcu> in namespace rcumalloc, typed
 * pools, and a memory resource.
 *
 * The surface of <rcu> is that of P2545, [saferecl.rcu] of the standard: what is said there holds here.
 * There is one domain. Scheduled evaluations run in the thread that rcumalloc_call describes, so a deleter
 * may take any lock, and must not throw, nor call rcu_barrier. Programs that only free memory need none of
 * this: delete defers by itself, though the destructor runs at once, under the readers' eyes; retire() has
 * it run after the grace period, too.
 *
 * C++17 and later. As rcumalloc.h says, the library must be there, preloaded or linked: ask
 * rcumalloc_present(). */
#ifndef RCUMALLOC_HPP
#define RCUMALLOC_HPP

#include "rcumalloc.h"

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#if __has_include(<memory_resource>)
#include <memory_resource>
#endif

namespace rcumalloc {

/* A section from here to the end of the scope. */
class read_guard {
public:
    read_guard() noexcept { rcumalloc_read_lock(); }
    ~read_guard() { rcumalloc_read_unlock(); }
    read_guard(const read_guard &) = delete;
    read_guard &operator=(const read_guard &) = delete;
};

/* The same by the thread's handle, where the compiler has it inline. */
#if defined(__x86_64__) && defined(__GCC_ASM_FLAG_OUTPUTS__) || \
    defined(__aarch64__) && defined(__ATOMIC_RELEASE)
class reader_guard {
public:
    explicit reader_guard(rcumalloc_reader *self) noexcept : self(self) { rcumalloc_reader_lock(self); }
    ~reader_guard() { rcumalloc_reader_unlock(self); }
    reader_guard(const reader_guard &) = delete;
    reader_guard &operator=(const reader_guard &) = delete;

private:
    rcumalloc_reader *self;
};
#endif

/* Around what blocks for long: grace periods do not wait for the thread. Not inside a section, and not
 * nested. */
class offline_guard {
public:
    offline_guard() noexcept { rcumalloc_thread_offline(); }
    ~offline_guard() { rcumalloc_thread_online(); }
    offline_guard(const offline_guard &) = delete;
    offline_guard &operator=(const offline_guard &) = delete;
};

/* ---- C++26 <rcu> --------------------------------------------------------------------------- */

/* The one domain. Its regions are sections: they nest, in each other and in read_guard's. A Lockable, so that
 * std::scoped_lock and std::unique_lock open and close them. */
class rcu_domain {
public:
    rcu_domain(const rcu_domain &) = delete;
    rcu_domain &operator=(const rcu_domain &) = delete;

    void lock() noexcept { rcumalloc_read_lock(); }
    bool try_lock() noexcept {
        lock();
        return true;
    }
    void unlock() noexcept { rcumalloc_read_unlock(); }

private:
    rcu_domain() = default;
    friend rcu_domain &rcu_default_domain() noexcept;
};

inline rcu_domain &rcu_default_domain() noexcept {
    static rcu_domain domain;
    return domain;
}

/* Waits until every region opened before has been closed. Not inside one. */
inline void rcu_synchronize(rcu_domain & = rcu_default_domain()) noexcept { rcumalloc_synchronize(); }

/* Waits until what has been retired before has been deleted. Not inside a region. */
inline void rcu_barrier(rcu_domain & = rcu_default_domain()) noexcept { rcumalloc_barrier(); }

namespace detail {

/* The place in the library's queue. It is no part of the object's value: a copy has a place of its own,
 * and copying does not look at one that the library may be writing to. */
struct place : rcumalloc_head {
    place() noexcept : rcumalloc_head{} {}
    place(const place &) noexcept : rcumalloc_head{} {}
    place &operator=(const place &) noexcept { return *this; }
};

template <class T, class D>
struct retired : place {
    retired(T *object, D &&deleter) : object(object), deleter(std::move(deleter)) {}

    static void run(rcumalloc_head *head) noexcept {
        std::unique_ptr<retired> own(static_cast<retired *>(head));
        own->deleter(own->object);
    }

    T *object;
    D deleter;
};

} // namespace detail

/* Base of a class T whose objects can be retired without memory, and so without failing. */
template <class T, class D = std::default_delete<T>>
class rcu_obj_base : private detail::place {
public:
    /* Has d(object) called once every region that was open has been closed. Once for an object. */
    void retire(D d = D(), rcu_domain & = rcu_default_domain()) noexcept {
        deleter = std::move(d);
        rcumalloc_call_head(this, run);
    }

protected:
    rcu_obj_base() = default;
    rcu_obj_base(const rcu_obj_base &) = default;
    rcu_obj_base(rcu_obj_base &&) = default;
    rcu_obj_base &operator=(const rcu_obj_base &) = default;
    rcu_obj_base &operator=(rcu_obj_base &&) = default;
    ~rcu_obj_base() = default;

private:
    static void run(rcumalloc_head *head) noexcept {
        rcu_obj_base *self = static_cast<rcu_obj_base *>(head);
        /* It may lie in the object that it deletes. */
        D own(std::move(self->deleter));
        own(static_cast<T *>(self));
    }

    D deleter;
};

/* Has d(p) called once every region that was open has been closed. Throws std::bad_alloc if there is no
 * memory for the place in the queue; nothing is scheduled then. */
template <class T, class D = std::default_delete<T>>
void rcu_retire(T *p, D d = D(), rcu_domain & = rcu_default_domain()) {
    rcumalloc_call_head(new detail::retired<T, D>(p, std::move(d)), detail::retired<T, D>::run);
}

/* ---- typed pools ---------------------------------------------------------------------------- */

/* A pool of objects of one type with RCUMALLOC_POOL_TYPESAFE, as rcumalloc.h describes it: whoever finds an
 * object in a section takes a reference to it, by a counter in the object, and asks it again whether it is
 * the one that was meant.
 *
 * The pool runs no constructor and no destructor, since readers may look at any time: an object is zeros the
 * first time and as it was freed after that. So T is made of atomics, and of what is never changed. A pool
 * that ends before all its objects have been freed is a bad call. */
template <class T>
class pool {
    static_assert(std::is_trivially_destructible<T>::value, "no destructor runs: readers may look");

public:
    /* Throws std::bad_alloc if there is no memory, or T is larger than 1 MiB or aligned to more than 4096. */
    explicit pool(const char *name)
        : handle(rcumalloc_pool_create(name, sizeof(T), alignof(T), RCUMALLOC_POOL_TYPESAFE)) {
        if (handle == nullptr) {
            throw std::bad_alloc();
        }
    }
    ~pool() { rcumalloc_pool_destroy(handle); }
    pool(const pool &) = delete;
    pool &operator=(const pool &) = delete;

    /* Memory for an object; null: there is none. */
    T *alloc() noexcept { return static_cast<T *>(rcumalloc_pool_alloc(handle)); }
    /* Gives an object back, which may be handed out again at once. Null is nothing. */
    void free(T *object) noexcept { rcumalloc_pool_free(handle, object); }

private:
    rcumalloc_pool *handle;
};

/* ---- memory resource ------------------------------------------------------------------------ */

#if defined(__cpp_lib_memory_resource)

/* Memory whose deallocation waits for a grace period whatever RCUMALLOC_DEFER says: readers may look at
 * what a container has given up until their sections end. */
class rcu_memory_resource final : public std::pmr::memory_resource {
    void *do_allocate(std::size_t bytes, std::size_t alignment) override {
        /* aligned_alloc wants a multiple of the alignment. */
        const std::size_t whole = (bytes + alignment - 1) & ~(alignment - 1);
        void *block = nullptr;
        if (alignment <= alignof(std::max_align_t)) {
            block = std::malloc(bytes);
        } else if (whole >= bytes) {
            block = ::aligned_alloc(alignment, whole);
        }
        if (block == nullptr) {
            throw std::bad_alloc();
        }
        return block;
    }

    void do_deallocate(void *block, std::size_t, std::size_t) override { rcumalloc_free(block); }

    bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override {
        return dynamic_cast<const rcu_memory_resource *>(&other) != nullptr;
    }
};

/* The one there need be. */
inline std::pmr::memory_resource *rcu_resource() noexcept {
    static rcu_memory_resource resource;
    return &resource;
}

#endif

} // namespace rcumalloc

#endif
