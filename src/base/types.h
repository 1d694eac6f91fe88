// Numeric types used everywhere: counts, offsets and sizes are signed 64-bit.
#pragma once
#include <cstddef>
#include <cstdint>

// Marks functions that kernels of graphics processors call as well.
#if defined(__CUDACC__)
#define COHORT_EVERYWHERE __host__ __device__
#else
#define COHORT_EVERYWHERE
#endif

namespace cohort {
using i32 = std::int32_t;
using i64 = std::int64_t;
using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
}  // namespace cohort
