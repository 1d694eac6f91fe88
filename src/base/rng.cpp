#include "base/rng.h"

#include <cmath>
#include <numbers>

#include "base/error.h"
#include "base/hash.h"
#include "base/philox.h"

namespace cohort {

Philox philox(u64 key, u64 counter_high, u64 counter_low) {
  const PhiloxBlock b = philox_block(key, counter_high, counter_low);
  return {b.word[0], b.word[1], b.word[2], b.word[3]};
}

u64 mix_key(u64 a, u64 b) { return mix_keys(a, b); }

u64 name_key(std::string_view name) { return hash_text(name); }

u32 Stream::next_u32() {
  if (used_ == 4) {
    block_ = philox(key_, 0, counter_++);
    used_ = 0;
  }
  return block_[static_cast<std::size_t>(used_++)];
}

u64 Stream::next_u64() {
  const u64 low = next_u32();
  return (static_cast<u64>(next_u32()) << 32) | low;
}

double Stream::uniform() { return static_cast<double>(next_u64() >> 11) * 0x1.0p-53; }

double Stream::normal() {
  const double u = 1.0 - uniform();  // (0, 1]
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * uniform());
}

i64 Stream::below(i64 bound) {
  COHORT_CHECK(bound >= 1, "Stream::below needs a bound of at least 1");
  const u64 b = static_cast<u64>(bound);
  const u64 limit = ~0ull - (~0ull % b + 1) % b;  // the last value of a whole number of cycles
  u64 x = next_u64();
  while (x > limit) x = next_u64();
  return static_cast<i64>(x % b);
}

void Stream::shuffle(std::vector<i64>& values) {
  for (std::size_t i = values.size(); i > 1; --i)
    std::swap(values[i - 1], values[static_cast<std::size_t>(below(static_cast<i64>(i)))]);
}

}  // namespace cohort
