// C++26's <rcu> as rcumalloc.hpp has it, in the uses that P2545 is for: a case each.
#include "rcumalloc.hpp"

#include <atomic>
#include <cstdio>
#include <cstring>
#include <malloc.h>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);         \
            std::_Exit(1);                                                                         \
        }                                                                                          \
    } while (0)

using namespace rcumalloc;

static_assert(!std::is_copy_constructible_v<rcu_domain> && !std::is_default_constructible_v<rcu_domain>);
static_assert(noexcept(rcu_default_domain()) && noexcept(rcu_synchronize()) && noexcept(rcu_barrier()));
static_assert(noexcept(std::declval<rcu_domain &>().lock()) &&
    noexcept(std::declval<rcu_domain &>().try_lock()));

/* How many objects are there, and how many have been destroyed. */
static std::atomic<long> alive, destroyed;

/* An object that notices if it is used after its destructor has run. */
struct counted {
    explicit counted(long value) : value(value), doubled(2 * value) { alive++; }
    counted(const counted &other) : value(other.value), doubled(other.doubled) { alive++; }
    ~counted() {
        value = -1;
        alive--;
        destroyed++;
    }
    bool is_whole() const { return value >= 0 && doubled == 2 * value; }
    long value, doubled;
};

struct table : rcu_obj_base<table>, counted {
    using counted::counted;
};
static_assert(noexcept(std::declval<table &>().retire()));

/* Readers look while a writer replaces. */
template <class T, class Retire>
static void replace(Retire retire) {
    constexpr int readers = 2, rounds = 20000;
    std::atomic<T *> current{new T(0)};
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (int i = 0; i < readers; i++) {
        threads.emplace_back([&] {
            while (!stop) {
                std::scoped_lock region(rcu_default_domain());
                CHECK(current.load(std::memory_order_acquire)->is_whole());
            }
        });
    }
    for (long i = 1; i <= rounds; i++) {
        retire(current.exchange(new T(i), std::memory_order_acq_rel));
    }
    stop = true;
    for (std::thread &thread : threads) {
        thread.join();
    }
    rcu_barrier();
    CHECK(alive == 1 && destroyed == rounds);
    delete current.load();
}

static void intrusive() {
    replace<table>([](table *old) { old->retire(); });
}

static void not_intrusive() {
    replace<counted>([](counted *old) { rcu_retire(old); });
}

/* By waiting, the third way. */
static void synchronized() {
    std::atomic<counted *> current{new counted(0)};
    std::atomic<bool> stop{false};
    std::thread reader([&] {
        while (!stop) {
            read_guard region;
            CHECK(current.load(std::memory_order_acquire)->is_whole());
        }
    });
    for (long i = 1; i <= 200; i++) {
        counted *old = current.exchange(new counted(i), std::memory_order_acq_rel);
        rcu_synchronize();
        delete old;
    }
    stop = true;
    reader.join();
    CHECK(alive == 1 && destroyed == 200);
    delete current.load();
}

/* Deleters with a state, one that cannot be copied among them; a lock that the retiring thread holds. */
struct into {
    std::unique_ptr<long> add;
    std::atomic<long> *sum;
    void operator()(counted *object) {
        *sum += *add + object->value;
        delete object;
    }
};

struct owned;
struct take {
    std::mutex *mutex;
    void operator()(owned *object) const;
};
struct owned : rcu_obj_base<owned, take>, counted {
    using counted::counted;
};
void take::operator()(owned *object) const {
    std::scoped_lock held(*mutex);
    delete object;
}

static void deleters() {
    std::atomic<long> sum{0};
    for (long i = 0; i < 100; i++) {
        rcu_retire(new counted(i), into{std::make_unique<long>(1000), &sum});
    }
    rcu_retire(new counted(7), [&sum](counted *object) {
        sum += 1000000;
        delete object;
    });
    rcu_barrier();
    CHECK(sum == 1000000 + 100 * 1000 + 99 * 100 / 2);
    std::mutex mutex;
    {
        std::scoped_lock held(mutex);
        for (int i = 0; i < 100; i++) {
            (new owned(i))->retire(take{&mutex});
        }
        CHECK(destroyed == 101);
    }
    rcu_barrier();
    CHECK(alive == 0 && destroyed == 201);
}

/* A region that was open before is waited for; regions nest; a copy has its own place in the queue. */
static void regions() {
    table first(1);
    table *copy = new table(first);
    std::unique_lock region(rcu_default_domain());
    CHECK(rcumalloc_read_held() && rcu_default_domain().try_lock());
    copy->retire();
    table *second = new table(*copy);
    second->retire();
    rcu_default_domain().unlock();
    for (int i = 0; i < 50; i++) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        CHECK(destroyed == 0 && copy->is_whole());
    }
    region.unlock();
    CHECK(!rcumalloc_read_held());
    rcu_barrier();
    CHECK(destroyed == 2);
    {
        reader_guard by_handle(rcumalloc_reader_self());
        CHECK(rcumalloc_read_held());
    }
    offline_guard away;
}

static void resource() {
#if defined(__cpp_lib_memory_resource)
    struct alignas(256) wide {
        char bytes[300];
    };
    CHECK(rcu_resource()->is_equal(*rcu_resource()) &&
        !rcu_resource()->is_equal(*std::pmr::new_delete_resource()));
    const long *seen = nullptr;
    {
        std::pmr::vector<long> numbers({1, 2, 3}, rcu_resource());
        std::pmr::vector<wide> wides(3, rcu_resource());
        CHECK(reinterpret_cast<std::uintptr_t>(&wides[0]) % 256 == 0);
        CHECK(rcumalloc_owner(numbers.data(), nullptr, 0) && rcumalloc_owner(wides.data(), nullptr, 0));
        rcumalloc_read_lock();
        seen = numbers.data();
    }
    for (int i = 0; i < 10000; i++) {
        std::pmr::vector<long> others({-1, -1, -1}, rcu_resource());
    }
    CHECK(seen[0] == 1 && seen[2] == 3);
    rcumalloc_read_unlock();
    bool is_refused = false;
    try {
        static_cast<void>(rcu_resource()->allocate(SIZE_MAX - 100, 4096));
    } catch (const std::bad_alloc &) {
        is_refused = true;
    }
    CHECK(is_refused);
    std::puts("resource");
#else
    std::puts("no resource");
#endif
}

/* A table of counted objects as in pool_table.c: readers that keep an object in sight while it is freed and
 * handed out again find one of its type, and with a reference and its key asked again the right one. */
struct counted_object {
    std::atomic<unsigned> made, refs, key, value; /* refs 0: nobody has it */
    char more[240];
};

static void pools() {
    constexpr unsigned slots = 64, keys = 256, made = 0x0b9ec7;
    pool<counted_object> objects("table");
    static std::atomic<counted_object *> table[slots];
    std::atomic<bool> stop{false};
    std::atomic<long> found{0}, wrong{0}, strange{0};
    const auto put = [&](counted_object *object) {
        if (object != nullptr && object->refs.fetch_sub(1) == 1) {
            objects.free(object);
        }
    };
    const auto take = [](counted_object *object) {
        unsigned refs = object->refs;
        while (refs != 0 && !object->refs.compare_exchange_weak(refs, refs + 1)) {
        }
        return refs != 0;
    };
    std::vector<std::thread> readers;
    for (int i = 0; i < 2; i++) {
        readers.emplace_back([&] {
            for (unsigned key = 0; !stop; key = (key + 7) % keys) {
                counted_object *object;
                {
                    read_guard section;
                    object = table[key % slots];
                    for (int pause = 0; object != nullptr && pause < 3; pause++) {
                        std::this_thread::yield();
                        strange += object->made != made;
                    }
                    if (object != nullptr && !take(object)) {
                        object = nullptr;
                    }
                }
                if (object != nullptr && object->key == key) {
                    found++;
                    wrong += object->value != 3 * key;
                }
                put(object);
            }
        });
    }
    const auto empty = [&] {
        for (auto &slot : table) {
            put(slot.exchange(nullptr));
        }
    };
    for (unsigned i = 0; i < 20000 || found == 0; i++) {
        counted_object *object = objects.alloc();
        CHECK(object != nullptr);
        const unsigned key = i * 2654435761u % keys;
        object->made = made;
        object->key = key;
        object->value = 3 * key;
        object->refs = 1; /* from here on readers may take it */
        put(table[key % slots].exchange(object));
        if (i % 4 == 0) {
            std::this_thread::yield();
        }
        if (i % 500 == 0) {
            empty();
            malloc_trim(0); /* what is empty leaves the pool, and others overwrite it */
            for (int block = 0; block < 32; block++) {
                void *others = std::malloc(16384u << block % 4);
                CHECK(others != nullptr);
                std::memset(others, 0xdd, 16384u << block % 4);
                rcumalloc_free_now(others);
            }
        }
    }
    stop = true;
    for (auto &reader : readers) {
        reader.join();
    }
    empty();
    CHECK(wrong == 0 && strange == 0);
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && rcumalloc_present());
    static const struct {
        const char *name;
        void (*run)();
    } cases[] = {
        {"intrusive", intrusive}, {"not_intrusive", not_intrusive}, {"synchronized", synchronized},
        {"deleters", deleters},   {"regions", regions},             {"resource", resource},
        {"pools", pools},
    };
    for (const auto &entry : cases) {
        if (std::strcmp(argv[1], entry.name) == 0) {
            entry.run();
            std::puts("done");
            return 0;
        }
    }
    return 2;
}
