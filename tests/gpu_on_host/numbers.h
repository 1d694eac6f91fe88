// Numbers in the types that the libraries' stand-ins know, and the checks they all share.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "runtime.h"

namespace hg {

enum class Number { f32, bf16, f16, f64, i32, i64 };

inline std::size_t bytes_of(Number type) {
  switch (type) {
    case Number::bf16:
    case Number::f16:
      return 2;
    case Number::f32:
    case Number::i32:
      return 4;
    default:
      return 8;
  }
}

// Of the three types that arithmetic is done on in float.
inline float load(Number type, const void* p, std::size_t i) {
  switch (type) {
    case Number::bf16:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(p)[i]);
    case Number::f16:
      return __half2float(static_cast<const __half*>(p)[i]);
    default:
      return static_cast<const float*>(p)[i];
  }
}

inline void store(Number type, void* p, std::size_t i, float value) {
  switch (type) {
    case Number::bf16:
      static_cast<__nv_bfloat16*>(p)[i] = __float2bfloat16(value);
      return;
    case Number::f16:
      static_cast<__half*>(p)[i] = __float2half(value);
      return;
    default:
      static_cast<float*>(p)[i] = value;
  }
}

// What a tensor core keeps of an f32 operand: 10 bits of mantissa, rounded to nearest even.
inline float to_tf32(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7f800000u) == 0x7f800000u) return value;
  bits += 0xfffu + ((bits >> 13) & 1u);
  bits &= ~0x1fffu;
  std::memcpy(&value, &bits, sizeof bits);
  return value;
}

inline bool aligned(const void* p, std::size_t to) {
  return reinterpret_cast<std::uintptr_t>(p) % to == 0;
}

inline bool overlap(const void* a, std::size_t na, const void* b, std::size_t nb) {
  const auto x = reinterpret_cast<std::uintptr_t>(a), y = reinterpret_cast<std::uintptr_t>(b);
  return x < y + nb && y < x + na;
}

// A workspace holds no promise between calls: every library call leaves it full of NaN.
inline void trash(void* workspace, std::size_t bytes) {
  if (bytes) std::memset(workspace, 0xff, bytes);
}

}  // namespace hg
