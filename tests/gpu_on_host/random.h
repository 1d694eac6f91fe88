#pragma once
#include <cstdint>
#include <utility>

namespace hg {
// A small fast generator (SplitMix64): a block draws an order at each of its barriers.
struct Random {
  std::uint64_t state = 1;

  std::uint32_t next() {
    state += 0x9e3779b97f4a7c15u;
    std::uint64_t x = state;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return static_cast<std::uint32_t>(x >> 32);
  }
  // In [0, limit).
  std::uint32_t below(std::uint32_t limit) {
    return static_cast<std::uint32_t>((std::uint64_t{next()} * limit) >> 32);
  }
  template <class T>
  void shuffle(T* first, T* last) {
    for (auto n = static_cast<std::uint32_t>(last - first); n > 1; --n) {
      std::swap(first[n - 1], first[below(n)]);
    }
  }
};
}  // namespace hg
