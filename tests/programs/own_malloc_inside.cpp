// flags: -rdynamic
/* A program that brings its own malloc, as Chrome and Rust programs with jemalloc do: a small bump
 * allocator under the libc names. Everything the program and libc allocate must go there, and the
 * library beside it (threads, forks, its own calls) must not get in the way. */
#include "victim.h"
#include <string>
#include <thread>
#include <vector>

static char *arena;
static size_t used;
static const size_t ARENA = (size_t)1 << 30;
static unsigned long mallocs, frees;

static bool is_own(const void *block) { return block >= arena && block < arena + ARENA; }

extern "C" void *memalign(size_t align, size_t size) {
    if (__atomic_load_n(&arena, __ATOMIC_ACQUIRE) == nullptr) {
        void *fresh = mmap(nullptr, ARENA, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        char *none = nullptr;
        __atomic_compare_exchange_n(&arena, &none, (char *)fresh, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE);
    }
    __atomic_fetch_add(&mallocs, 1, __ATOMIC_RELAXED);
    size_t room = size + align + 32;
    size_t at = __atomic_fetch_add(&used, room, __ATOMIC_RELAXED);
    CHECK(at + room <= ARENA);
    uintptr_t block = ((uintptr_t)arena + at + 16 + align - 1) & ~(align - 1);
    ((size_t *)block)[-1] = size;
    return (void *)block;
}
extern "C" void *malloc(size_t size) { return memalign(16, size); }
extern "C" void free(void *block) {
    CHECK(block == nullptr || is_own(block));
    __atomic_fetch_add(&frees, 1, __ATOMIC_RELAXED);
}
extern "C" void *calloc(size_t count, size_t size) { return malloc(count * size); }
extern "C" void *realloc(void *block, size_t size) {
    void *fresh = malloc(size);
    if (block != nullptr) {
        CHECK(is_own(block));
        size_t had = ((size_t *)block)[-1];
        memcpy(fresh, block, had < size ? had : size);
    }
    return fresh;
}
extern "C" void *aligned_alloc(size_t align, size_t size) { return memalign(align, size); }
extern "C" int posix_memalign(void **out, size_t align, size_t size) {
    *out = memalign(align, size);
    return 0;
}
extern "C" size_t malloc_usable_size(void *block) { return block ? ((size_t *)block)[-1] : 0; }

int main() {
    CHECK(rcumalloc_present());
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++) {
        threads.emplace_back([i] {
            std::vector<std::string> strings;
            for (int j = 0; j < 2000; j++) {
                strings.push_back("a number longer than fifteen: " + std::to_string(i * j));
            }
            CHECK(is_own(strings.data()) && is_own(strings.back().data()));
            rcumalloc_read_lock();
            rcumalloc_read_unlock();
        });
    }
    for (auto &thread : threads) {
        thread.join();
    }
    char *copy = strdup("copied by libc");
    CHECK(is_own(copy));
    free(copy);
    pid_t child = fork();
    if (child == 0) {
        std::thread([] { CHECK(std::string(1000, 'x').size() == 1000); }).join();
        _exit(0);
    }
    reap(child);
    /* The other allocator lives beside it. */
    Dl_info info;
    CHECK(dladdr((void *)&rcumalloc_version, &info) != 0);
    void *library = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    CHECK(library != nullptr);
    auto its_malloc = (void *(*)(size_t))dlsym(library, "malloc");
    auto its_free = (void (*)(void *))dlsym(library, "free");
    for (int i = 0; i < 10000; i++) {
        void *block = its_malloc(100);
        CHECK(block != nullptr && !is_own(block));
        its_free(block);
    }
    CHECK(mallocs > 8000 && frees > 8000);
    dprintf(1, "done\n");
}
