#include "device/cpu/kernels/conv_pool.h"
#include "device/cpu/kernels/gemm.h"
#include "device/cpu/kernels/table.h"
#include "device/cpu/kernels/vector.h"

namespace cohort::COHORT_ISA {
namespace {

using cpu::AdamRule;
using cpu::GateStep;
using cpu::GateStepBack;
using cpu::GruStep;
using cpu::GruStepBack;

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
  map(x, n, [](Vector v) { return fast_tanh(v); });
}
void sigmoid_all(float* x, i64 n) {
  map(x, n, [](Vector v) { return fast_sigmoid(v); });
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
  for (i64 h = 0; h < H; h += native) {
    float* at = s.gates + h;
    const Vector i = fast_sigmoid(vector_at(at)), f = fast_sigmoid(vector_at(at + H));
    const Vector g = fast_tanh(vector_at(at + 2 * H)), o = fast_sigmoid(vector_at(at + 3 * H));
    vector_at(at) = i;
    vector_at(at + H) = f;
    vector_at(at + 2 * H) = g;
    vector_at(at + 3 * H) = o;
    Vector cell = i * g;
    if (s.cell_before) cell += f * vector_at(s.cell_before + h);
    vector_at(s.cell + h) = cell;
    vector_at(s.state + h) = o * fast_tanh(cell);
  }
}

void lstm_back(const GateStepBack& s) {
  const i64 H = s.units;
  for (i64 h = 0; h < H; h += native) {
    const float* at = s.gates + h;
    const Vector i = vector_at(at), f = vector_at(at + H), g = vector_at(at + 2 * H),
                 o = vector_at(at + 3 * H), th = fast_tanh(vector_at(s.cell + h));
    const Vector d_state = vector_at(s.d_state + h);
    const Vector dc = vector_at(s.d_cell + h) + d_state * o * (1.0f - th * th);
    const Vector before = s.cell_before ? vector_at(s.cell_before + h) : Vector{};
    float* to = s.d_gates + h;
    vector_at(to) = dc * g * i * (1.0f - i);
    vector_at(to + H) = dc * before * f * (1.0f - f);
    vector_at(to + 2 * H) = dc * i * (1.0f - g * g);
    vector_at(to + 3 * H) = d_state * th * o * (1.0f - o);
    vector_at(s.d_cell + h) = dc * f;
  }
}

void gru(const GruStep& s) {
  const i64 H = s.units;
  for (i64 h = 0; h < H; h += native) {
    float* at = s.gates + h;
    const Vector reset = fast_sigmoid(vector_at(at)), update = fast_sigmoid(vector_at(at + H));
    const Vector inner = vector_at(at + 3 * H);
    const Vector candidate = fast_tanh(vector_at(at + 2 * H) + reset * inner);
    const Vector before = s.state_before ? vector_at(s.state_before + h) : Vector{};
    vector_at(at) = reset;
    vector_at(at + H) = update;
    vector_at(at + 2 * H) = candidate;
    vector_at(s.state + h) = candidate + update * (before - candidate);
  }
}

void gru_back(const GruStepBack& s) {
  const i64 H = s.units;
  for (i64 h = 0; h < H; h += native) {
    const float* at = s.gates + h;
    const Vector reset = vector_at(at), update = vector_at(at + H), candidate = vector_at(at + 2 * H);
    const Vector before = s.state_before ? vector_at(s.state_before + h) : Vector{};
    const Vector d = vector_at(s.d_state + h);
    const Vector d_sum = d * (1.0f - update) * (1.0f - candidate * candidate);
    float* to = s.d_gates + h;
    vector_at(to) = d_sum * vector_at(at + 3 * H) * reset * (1.0f - reset);
    vector_at(to + H) = d * (before - candidate) * update * (1.0f - update);
    vector_at(to + 2 * H) = d_sum;
    vector_at(to + 3 * H) = d_sum * reset;
    vector_at(s.d_state + h) = d * update;
  }
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
      sigmoid_back, add, axpy, sum_squares, max_rows, conv_pool, conv_pool_back, packed_gemm, lstm,
      lstm_back, gru, gru_back, adam};
  return kernels;
}

}  // namespace cohort::COHORT_ISA
