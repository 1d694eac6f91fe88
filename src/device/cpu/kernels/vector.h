// Registers of one instruction set, and the functions that gates need of them. The code is spelt in
// vectors because a compiler may or may not vectorise such loops. Included by kernel files alone.
#pragma once
#include "device/cpu/kernels/table.h"

namespace cohort::COHORT_ISA {
namespace {

#if defined(__AVX512F__)
constexpr i64 native = 16;
#elif defined(__AVX2__)
constexpr i64 native = 8;
#else
constexpr i64 native = 4;
#endif
typedef float Vector __attribute__((vector_size(4 * native), aligned(4), may_alias));
typedef i32 IntVector __attribute__((vector_size(4 * native), aligned(4), may_alias));

inline const Vector& vector_at(const float* p) { return *reinterpret_cast<const Vector*>(p); }
inline Vector& vector_at(float* p) { return *reinterpret_cast<Vector*>(p); }
inline Vector all(float x) { return x - Vector{}; }

// exp by 2^n * exp(r), |r| <= ln(2)/2, degree 6; clamped to [-87, 88].
inline Vector fast_exp(Vector x) {
  x = x < -87.0f ? all(-87.0f) : x;
  x = x > 88.0f ? all(88.0f) : x;
  const Vector shifted = x * 1.44269504f + 12582912.0f;
  const Vector n = shifted - 12582912.0f;
  const Vector r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Vector p = all(1.38888889e-3f);
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const IntVector bits = (__builtin_convertvector(n, IntVector) + 127) << 23;
  return p * reinterpret_cast<const Vector&>(bits);
}
inline Vector fast_sigmoid(Vector x) { return 1.0f / (1.0f + fast_exp(-x)); }
// Near 0 the odd series keeps the relative error small.
inline Vector fast_tanh(Vector x) {
  const Vector square = x * x;
  const Vector series =
      x * (1.0f + square * (-0.333333333f + square * (0.133333333f + square * -0.0539682540f)));
  const Vector whole = 2.0f / (1.0f + fast_exp(-2.0f * x)) - 1.0f;
  return square < 0.01f ? series : whole;
}

// x[k] = f(x[k]) for any n.
template <class Function>
inline void map(float* x, i64 n, Function f) {
  i64 k = 0;
  for (; k + native <= n; k += native) vector_at(x + k) = f(vector_at(x + k));
  if (k == n) return;
  float tail[native] = {};
  for (i64 j = 0; k + j < n; ++j) tail[j] = x[k + j];
  vector_at(tail) = f(vector_at(tail));
  for (i64 j = 0; k + j < n; ++j) x[k + j] = tail[j];
}

}  // namespace
}  // namespace cohort::COHORT_ISA
