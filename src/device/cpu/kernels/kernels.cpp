#include "device/cpu/kernels/conv_pool.h"
#include "device/cpu/kernels/table.h"

namespace cohort::COHORT_ISA {
namespace {

using cpu::AdamRule;
using cpu::GateStep;
using cpu::GateStepBack;

// exp by 2^n * exp(r), |r| <= ln(2)/2, degree 6; clamped to [-87, 88].
inline float fast_exp(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float shifted = x * 1.44269504f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const int bits = (static_cast<int>(n) + 127) << 23;
  float power;
  __builtin_memcpy(&power, &bits, sizeof power);
  return p * power;
}
inline float fast_sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }
// Near 0 the odd series keeps the relative error small.
inline float fast_tanh(float x) {
  const float square = x * x;
  const float series =
      x * (1.0f + square * (-0.333333333f + square * (0.133333333f + square * -0.0539682540f)));
  const float whole = 2.0f / (1.0f + fast_exp(-2.0f * x)) - 1.0f;
  return square < 0.01f ? series : whole;
}

void add_bias(float* x, const float* bias, i64 rows, i64 width) {
  for (i64 r = 0; r < rows; ++r) {
    float* __restrict to = x + r * width;
    const float* __restrict b = bias;
    for (i64 k = 0; k < width; ++k) to[k] += b[k];
  }
}
void relu(float* x, i64 n) {
  for (i64 k = 0; k < n; ++k) x[k] = x[k] < 0 ? 0 : x[k];
}
void tanh_all(float* x, i64 n) {
  for (i64 k = 0; k < n; ++k) x[k] = fast_tanh(x[k]);
}
void sigmoid_all(float* x, i64 n) {
  for (i64 k = 0; k < n; ++k) x[k] = fast_sigmoid(x[k]);
}
void relu_back(float* d, const float* dy, const float* y, i64 n) {
  for (i64 k = 0; k < n; ++k) d[k] = y[k] > 0 ? dy[k] : 0;
}
void tanh_back(float* d, const float* dy, const float* y, i64 n) {
  for (i64 k = 0; k < n; ++k) d[k] = dy[k] * (1 - y[k] * y[k]);
}
void sigmoid_back(float* d, const float* dy, const float* y, i64 n) {
  for (i64 k = 0; k < n; ++k) d[k] = dy[k] * y[k] * (1 - y[k]);
}
void add(float* to, const float* from, i64 n) {
  float* __restrict a = to;
  const float* __restrict b = from;
  for (i64 k = 0; k < n; ++k) a[k] += b[k];
}
void axpy(float* to, float factor, const float* x, i64 n) {
  float* __restrict a = to;
  const float* __restrict b = x;
  for (i64 k = 0; k < n; ++k) a[k] += factor * b[k];
}

double sum_squares(const float* x, i64 n) {
  double part[16] = {};
  i64 k = 0;
  for (; k + 16 <= n; k += 16)
    for (i64 j = 0; j < 16; ++j) part[j] += static_cast<double>(x[k + j]) * x[k + j];
  for (; k < n; ++k) part[k % 16] += static_cast<double>(x[k]) * x[k];
  double sum = 0;
  for (const double p : part) sum += p;
  return sum;
}

void max_rows(const float* x, i64 rows, i64 width, float* best_, i32* row_) {
  float* __restrict best = best_;
  i32* __restrict row = row_;
  for (i64 k = 0; k < width; ++k) best[k] = x[k], row[k] = 0;
  for (i64 r = 1; r < rows; ++r) {
    const float* __restrict from = x + r * width;
    const i32 here = static_cast<i32>(r);
    for (i64 k = 0; k < width; ++k) {
      const bool above = from[k] > best[k];
      best[k] = above ? from[k] : best[k];
      row[k] = above ? here : row[k];
    }
  }
}

void lstm(const GateStep& s) {
  const i64 H = s.units;
  float* __restrict i = s.gates;
  float* __restrict f = s.gates + H;
  float* __restrict g = s.gates + 2 * H;
  float* __restrict o = s.gates + 3 * H;
  float* __restrict cell = s.cell;
  float* __restrict state = s.state;
  const float* __restrict before = s.cell_before;
  for (i64 h = 0; h < H; ++h) {
    i[h] = fast_sigmoid(i[h]);
    f[h] = fast_sigmoid(f[h]);
    g[h] = fast_tanh(g[h]);
    o[h] = fast_sigmoid(o[h]);
    cell[h] = i[h] * g[h];
  }
  if (before)
    for (i64 h = 0; h < H; ++h) cell[h] += f[h] * before[h];
  for (i64 h = 0; h < H; ++h) state[h] = o[h] * fast_tanh(cell[h]);
}

void lstm_back(const GateStepBack& s) {
  const i64 H = s.units;
  const float* __restrict gates = s.gates;
  const float* __restrict cell = s.cell;
  const float* __restrict d_state = s.d_state;
  float* __restrict d_cell = s.d_cell;
  float* __restrict d = s.d_gates;
  for (i64 h = 0; h < H; ++h) {
    const float i = gates[h], f = gates[H + h], g = gates[2 * H + h], o = gates[3 * H + h];
    const float th = fast_tanh(cell[h]);
    const float dc = d_cell[h] + d_state[h] * o * (1 - th * th);
    d[h] = dc * g * i * (1 - i);
    d[H + h] = dc * f * (1 - f);
    d[2 * H + h] = dc * i * (1 - g * g);
    d[3 * H + h] = d_state[h] * th * o * (1 - o);
    d_cell[h] = dc * f;
  }
  const float* __restrict before = s.cell_before;
  for (i64 h = 0; h < H; ++h) d[H + h] = before ? d[H + h] * before[h] : 0;
}

void adam(float* p_, const float* g_, float* m_, float* v_, i64 n, const AdamRule& rule) {
  float* __restrict p = p_;
  const float* __restrict g = g_;
  float* __restrict m = m_;
  float* __restrict v = v_;
  const AdamRule r = rule;
  for (i64 k = 0; k < n; ++k) {
    const float x = p[k] * r.shrink;
    const float grad = g[k] * r.scale + r.decay * p[k];
    const float first = r.beta1 * m[k] + (1 - r.beta1) * grad;
    const float second = r.beta2 * v[k] + (1 - r.beta2) * grad * grad;
    m[k] = first;
    v[k] = second;
    p[k] = x - r.rate * first / (__builtin_sqrtf(second) * r.inverse_root_correction2 + r.epsilon);
  }
}

}  // namespace

const cpu::KernelTable& table() {
  static constexpr cpu::KernelTable kernels = {
      add_bias,  relu,      tanh_all,     sigmoid_all, relu_back, tanh_back,
      sigmoid_back, add, axpy, sum_squares, max_rows, conv_pool, conv_pool_back, lstm,
      lstm_back, adam};
  return kernels;
}

}  // namespace cohort::COHORT_ISA
