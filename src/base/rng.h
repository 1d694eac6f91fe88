// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). A value is a pure function of (key, counter), so a mask or a permutation
// depends on (seed, epoch, row or name) and never on rank, thread or history.
#pragma once
#include <array>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace cohort {

using Philox = std::array<u32, 4>;

// Ten rounds on one 128-bit counter.
Philox philox(u64 key, u64 counter_high, u64 counter_low);

// Mixes identifiers into one key; order matters. mix_key(seed, epoch, lane, window) and the like.
u64 mix_key(u64 a, u64 b);
template <class... Rest>
u64 mix_key(u64 a, u64 b, Rest... rest) {
  return mix_key(mix_key(a, b), static_cast<u64>(rest)...);
}
// The key of a name (a parameter, a layer): XXH64 of its bytes.
u64 name_key(std::string_view name);

// A sequential view on one key, for initialisers, shuffles and generators.
class Stream {
 public:
  explicit Stream(u64 key) : key_(key) {}
  u32 next_u32();
  u64 next_u64();
  double uniform();             // [0, 1), 53 bits
  double normal();              // mean 0, variance 1 (Box-Muller)
  i64 below(i64 bound);         // unbiased integer in [0, bound), bound >= 1
  void shuffle(std::vector<i64>& values);  // Fisher-Yates

 private:
  u64 key_;
  u64 counter_ = 0;
  Philox block_{};
  int used_ = 4;
};

}  // namespace cohort
