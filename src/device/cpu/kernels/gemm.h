// C = A B (+ bias, or + C) for the small products of a recurrent step, B packed beforehand: tiles of
// C stay in registers over a block of k. Included by kernels.cpp alone.
#pragma once
#include "device/cpu/kernels/vector.h"

namespace cohort::COHORT_ISA {
namespace {

#if defined(__AVX512F__)
constexpr i64 most_rows = 6, most_strips = 4;   // 24 of 32 registers
#elif defined(__AVX2__)
constexpr i64 most_rows = 6, most_strips = 1;   // 12 of 16
#else
constexpr i64 most_rows = 3, most_strips = 1;   // 12 of 16
#endif
constexpr i64 strip = 16, vectors = strip / native;   // C is computed in strips of 16 columns

// rows x (strips * 16) results over `depth` of k; B has `width` columns a row.
template <i64 rows, i64 strips>
inline void tile(const cpu::PackedGemm& g, const float* a, const float* b, i64 width, i64 depth,
                 const float* bias, bool add, float* c) {
  constexpr i64 wide = strips * vectors;
  Vector sum[rows][wide];
  for (i64 r = 0; r < rows; ++r)
    for (i64 v = 0; v < wide; ++v)
      sum[r][v] = add    ? vector_at(c + r * g.ldc + v * native)
                  : bias ? vector_at(bias + v * native)
                         : Vector{};
#if defined(__clang__)
#pragma unroll 4
#else
#pragma GCC unroll 4
#endif
  for (i64 k = 0; k < depth; ++k) {
    Vector weight[wide];
    for (i64 v = 0; v < wide; ++v) weight[v] = vector_at(b + k * width + v * native);
    for (i64 r = 0; r < rows; ++r) {
      const Vector x = all(a[r * g.lda + k]);
      for (i64 v = 0; v < wide; ++v) sum[r][v] += x * weight[v];
    }
  }
  for (i64 r = 0; r < rows; ++r)
    for (i64 v = 0; v < wide; ++v) vector_at(c + r * g.ldc + v * native) = sum[r][v];
}

// All rows of `strips` neighbouring strips, of a panel that is `width` wide.
template <i64 strips>
void columns(const cpu::PackedGemm& g, i64 column, i64 width, i64 k, i64 depth) {
  const i64 panel = column / cpu::packed_panel * cpu::packed_panel;
  const float* b = g.b + panel * g.k + k * width + (column - panel);
  const float* bias = g.bias && k == 0 ? g.bias + column : nullptr;
  const bool add = g.add || k > 0;
  for (i64 row = 0; row < g.m; row += most_rows) {
    const float* a = g.a + row * g.lda + k;
    float* c = g.c + row * g.ldc + column;
    const i64 left = g.m - row;
    if (left >= most_rows)
      tile<most_rows, strips>(g, a, b, width, depth, bias, add, c);
    else if (left == 1)
      tile<1, strips>(g, a, b, width, depth, bias, add, c);
    else if (left == 2)
      tile<2, strips>(g, a, b, width, depth, bias, add, c);
    else if (left == 3)
      tile<3, strips>(g, a, b, width, depth, bias, add, c);
    else if (left == 4)
      tile<4, strips>(g, a, b, width, depth, bias, add, c);
    else
      tile<5, strips>(g, a, b, width, depth, bias, add, c);
  }
}

void packed_gemm(const cpu::PackedGemm& g) {
  constexpr i64 block = 256;   // 64 columns of 256 weights: 64 KiB, read from the second cache
  for (i64 panel = 0; panel < g.n; panel += cpu::packed_panel) {
    const i64 width = g.n - panel < cpu::packed_panel ? g.n - panel : cpu::packed_panel;
    for (i64 k = 0; k < g.k; k += block) {
      const i64 depth = k + block < g.k ? block : g.k - k;
      i64 at = panel;
      for (; at + most_strips * strip <= panel + width; at += most_strips * strip)
        columns<most_strips>(g, at, width, k, depth);
      for (; at < panel + width; at += strip) columns<1>(g, at, width, k, depth);
    }
  }
}

}  // namespace
}  // namespace cohort::COHORT_ISA
