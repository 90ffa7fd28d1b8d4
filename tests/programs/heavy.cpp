// For the compiler to chew on: templates, and much standard library.
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <regex>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

template <int N> struct Chain {
    std::variant<int, std::string, std::vector<double>> value;
    Chain<N - 1> rest;
    template <typename F> void each(F &&f) {
        std::visit(f, value);
        rest.each(f);
    }
};
template <> struct Chain<0> {
    template <typename F> void each(F &&) {}
};

template <typename... T> auto sum(T... values) { return (0 + ... + values); }

int main(int argc, char **argv) {
    std::map<std::string, std::unordered_map<int, std::shared_ptr<std::vector<int>>>> index;
    std::regex words("([a-z]+)([0-9]*)", std::regex::icase);
    for (int i = 0; i < argc; i++) {
        std::smatch match;
        std::string text = argv[i];
        if (std::regex_search(text, match, words)) {
            index[match[1]][i] = std::make_shared<std::vector<int>>(i);
        }
    }
    Chain<60> chain;
    size_t total = 0;
    chain.each([&](auto &value) { total += sizeof value; });
    std::vector<std::function<int(int)>> functions;
    for (int i = 0; i < 10; i++) {
        functions.emplace_back([i, &index](int x) { return x * i + (int)index.size(); });
    }
    std::cout << total << sum(1, 2, 3, 4)
              << std::accumulate(functions.begin(), functions.end(), 0,
                                 [](int sum, auto &f) { return sum + f(sum); });
}
