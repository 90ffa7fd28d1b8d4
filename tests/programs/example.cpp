// A table that readers look at without a lock and a writer replaces, with C++26's <rcu> as rcumalloc.hpp has
// it. Its destructor, too, waits until every section that may see it has ended.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

#include <rcumalloc.hpp>

struct config : rcumalloc::rcu_obj_base<config> {
    explicit config(int version) : version(version), doubled(2 * version) {}
    ~config() { version = -1; }
    int version;
    int doubled; // always twice the version: a destroyed or recycled table would show
};

static std::atomic<config *> current{new config(0)};
static std::atomic<bool> stop;

static void read() {
    while (!stop) {
        std::scoped_lock section(rcumalloc::rcu_default_domain());
        const config *seen = current;
        if (seen->doubled != 2 * seen->version) {
            std::abort();
        }
    }
}

int main() {
    std::thread reader(read);
    for (int version = 1; version <= 100000; version++) {
        current.exchange(new config(version))->retire();
    }
    stop = true;
    reader.join();
    std::printf("version %d, every look was consistent\n", current.load()->version);
    rcumalloc::rcu_barrier();
}
