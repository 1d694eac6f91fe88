// Which elements dropout keeps: the one definition, shared by every device.
#pragma once
#include "base/rng.h"
#include "model/graph.h"

namespace cohort {

// Key of one layer's masks in one epoch.
inline u64 dropout_key(u64 seed, i64 epoch, const std::string& layer) {
  return mix_key(seed, static_cast<u64>(epoch), name_key(layer));
}

// Keep when the element's 32 random bits are >= this: P(drop) = rate to within 2^-32.
inline u32 dropout_threshold(double rate) { return static_cast<u32>(rate * 4294967296.0); }

// Bits of elements 4*quad .. 4*quad+3 of a row.
inline Philox dropout_bits(u64 key, i64 row_id, i64 quad) {
  return philox(key, static_cast<u64>(row_id), static_cast<u64>(quad));
}

inline bool dropout_keeps(u64 key, i64 row_id, i64 element, u32 threshold) {
  return dropout_bits(key, row_id, element / 4)[static_cast<std::size_t>(element % 4)] >=
         threshold;
}

}  // namespace cohort
