// Philox4x32-10 in plain types, so that kernels of graphics processors draw the same numbers; see
// base/rng.h for what it is used for.
#pragma once
#include "base/types.h"

namespace cohort {

struct PhiloxBlock {
  u32 word[4];
};

// Ten rounds on one 128-bit counter.
COHORT_EVERYWHERE inline PhiloxBlock philox_block(u64 key, u64 counter_high, u64 counter_low) {
  PhiloxBlock c{{static_cast<u32>(counter_low), static_cast<u32>(counter_low >> 32),
                 static_cast<u32>(counter_high), static_cast<u32>(counter_high >> 32)}};
  u32 k0 = static_cast<u32>(key), k1 = static_cast<u32>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const u64 a = static_cast<u64>(0xD2511F53u) * c.word[0];
    const u64 b = static_cast<u64>(0xCD9E8D57u) * c.word[2];
    const u32 first = static_cast<u32>(b >> 32) ^ c.word[1] ^ k0;
    const u32 third = static_cast<u32>(a >> 32) ^ c.word[3] ^ k1;
    c = {{first, static_cast<u32>(b), third, static_cast<u32>(a)}};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

// Mixes two identifiers into one key; order matters.
COHORT_EVERYWHERE inline u64 mix_keys(u64 a, u64 b) {
  const PhiloxBlock p = philox_block(a, 0x636F686F7274ull, b);
  return (static_cast<u64>(p.word[1]) << 32) | p.word[0];
}

}  // namespace cohort
