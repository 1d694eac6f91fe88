#include "device/cpu/cpu_impl.h"

namespace cohort::cpu {
namespace {

// One shard's rows for the whole sequence, time first: vector (t, i) of row first + i is at
// (t * n + i). saved: gates, cells, states; scratch: transposed weights (shared), then per row
// inputs, gate gradients, input gradients, d_state, d_cell; then per shard partial gradients.
struct Walk {
  const Call& c;
  const Recurrent& op;
  i64 H, G, F, T, rows;
  i64 n = 0, first = 0;
  float *gates = nullptr, *cells = nullptr, *states = nullptr;
  float *input = nullptr, *d_gates = nullptr, *d_input = nullptr, *d_state = nullptr,
        *d_cell = nullptr, *parts = nullptr;
  float *w_ih_t = nullptr, *w_hh_t = nullptr;
  bool lstm() const { return op.cell == Cell::lstm; }
  i64 part_size() const { return padded(G * F) + padded(G * H) + padded(G); }
};

Walk sizes(const Call& c, const Recurrent& op) {
  const i64 G = (op.cell == Cell::lstm ? 4 : 1) * op.units;
  return {c, op, op.units, G, last(c.in[0].shape), c.in[0].shape[1], c.in[0].shape[0]};
}

Walk walk_of(const Call& c, const Recurrent& op, int shard, i64 first, i64 end) {
  Walk w = sizes(c, op);
  w.first = first;
  w.n = end - first;
  const i64 all = w.rows * w.T;
  float* saved = reinterpret_cast<float*>(c.saved.data);
  w.gates = saved + first * w.T * w.G;
  w.cells = saved + all * w.G + first * w.T * w.H;
  w.states = saved + all * (w.G + w.H) + first * w.T * w.H;
  float* s = reinterpret_cast<float*>(c.scratch.data);
  w.w_ih_t = s;
  w.w_hh_t = s + padded(w.G * w.F);
  s = w.w_hh_t + padded(w.G * w.H);
  w.input = s + first * w.T * w.F;
  w.d_input = s + all * w.F + first * w.T * w.F;
  w.d_gates = s + all * 2 * w.F + first * w.T * w.G;
  s += all * (2 * w.F + w.G);
  w.d_state = s + first * w.H;
  w.d_cell = s + (w.rows + first) * w.H;
  w.parts = s + padded(2 * w.rows * w.H) + shard * w.part_size();
  return w;
}

void gather_input(const Walk& w) {
  for (i64 i = 0; i < w.n; ++i) {
    const i64 valid = steps_in(w.c, 0, w.first + i);
    for (i64 t = 0; t < w.T; ++t) {
      float* to = w.input + (t * w.n + i) * w.F;
      if (t < valid)
        std::copy_n(real(w.c.in[0]) + ((w.first + i) * w.T + t) * w.F, w.F, to);
      else
        std::fill_n(to, w.F, 0.0f);
    }
  }
}

void step_forward(Context& x, const Walk& w, i64 t) {
  const i64 H = w.H, G = w.G;
  float* gates = w.gates + t * w.n * G;
  if (t > 0)
    gemm({.m = w.n, .n = G, .k = H, .a = w.states + (t - 1) * w.n * H, .lda = H, .b = w.w_hh_t,
          .ldb = G, .beta = 1, .c = gates, .ldc = G});
  for (i64 i = 0; i < w.n; ++i) {
    const i64 r = w.first + i, valid = steps_in(w.c, 0, r);
    float* cell = w.cells + (t * w.n + i) * H;
    float* state = w.states + (t * w.n + i) * H;
    if (t >= valid) {
      std::fill_n(state, H, 0.0f);
      continue;
    }
    if (w.lstm()) {
      x.kernels.lstm({H, gates + i * G, t > 0 ? cell - w.n * H : nullptr, cell, state});
    } else {
      x.kernels.tanh(gates + i * G, H);
      std::copy_n(gates + i * G, H, state);
    }
    if (w.op.every_step || t + 1 == valid)
      std::copy_n(state, H, real(w.c.out[0]) + (w.op.every_step ? r * w.T + t : r) * H);
  }
}

void step_backward(Context& x, const Walk& w, i64 t) {
  const i64 H = w.H, G = w.G;
  float* d_gates = w.d_gates + t * w.n * G;
  for (i64 i = 0; i < w.n; ++i) {
    const i64 r = w.first + i, valid = steps_in(w.c, 0, r);
    if (t >= valid) {
      std::fill_n(d_gates + i * G, G, 0.0f);
      continue;
    }
    float* d_state = w.d_state + i * H;
    if (w.op.every_step || t + 1 == valid)
      x.kernels.add(d_state, real(w.c.d_out[0]) + (w.op.every_step ? r * w.T + t : r) * H, H);
    const float* gates = w.gates + (t * w.n + i) * G;
    const float* cell = w.cells + (t * w.n + i) * H;
    if (w.lstm())
      x.kernels.lstm_back({H, gates, t > 0 ? cell - w.n * H : nullptr, cell, d_state,
                           w.d_cell + i * H, d_gates + i * G});
    else
      x.kernels.tanh_back(d_gates + i * G, d_state, gates, H);
  }
  if (t > 0)
    gemm({.m = w.n, .n = H, .k = G, .a = d_gates, .lda = G, .b = real(w.c.param[1]), .ldb = H,
          .c = w.d_state, .ldc = H});
}

void parameter_parts(Context& x, const Walk& w) {
  float* d_ih = w.parts;
  float* d_hh = d_ih + padded(w.G * w.F);
  float* d_b = d_hh + padded(w.G * w.H);
  gemm({.a_t = true, .m = w.G, .n = w.F, .k = w.T * w.n, .a = w.d_gates, .lda = w.G, .b = w.input,
        .ldb = w.F, .c = d_ih, .ldc = w.F});
  if (w.T > 1)
    gemm({.a_t = true, .m = w.G, .n = w.H, .k = (w.T - 1) * w.n, .a = w.d_gates + w.n * w.G,
          .lda = w.G, .b = w.states, .ldb = w.H, .c = d_hh, .ldc = w.H});
  for (i64 v = 0; v < w.T * w.n; ++v) x.kernels.add(d_b, w.d_gates + v * w.G, w.G);
}

void input_gradient(Context& x, const Walk& w) {
  gemm({.m = w.T * w.n, .n = w.F, .k = w.G, .a = w.d_gates, .lda = w.G, .b = real(w.c.param[0]),
        .ldb = w.F, .c = w.d_input, .ldc = w.F});
  for (i64 i = 0; i < w.n; ++i)
    for (i64 t = 0; t < w.T; ++t)
      x.kernels.add(real(w.c.d_in[0]) + ((w.first + i) * w.T + t) * w.F,
                    w.d_input + (t * w.n + i) * w.F, w.F);
}

}  // namespace

Needs needs(const Call& c, const Recurrent& op, i64 threads) {
  const Walk w = sizes(c, op);
  const i64 all = w.rows * w.T;
  Needs needs;
  needs.saved = 4 * all * (w.G + 2 * w.H);
  needs.scratch = 4 * (padded(w.G * w.F) + padded(w.G * w.H) + all * (2 * w.F + w.G) +
                       padded(2 * w.rows * w.H) + threads * w.part_size());
  return needs;
}

void forward(Context& x, const Call& c, const Recurrent& op) {
  const Walk shared = walk_of(c, op, 0, 0, 0);
  transpose(real(c.param[0]), shared.w_ih_t, shared.G, shared.F);
  transpose(real(c.param[1]), shared.w_hh_t, shared.G, shared.H);
  std::fill_n(real(c.out[0]), c.out[0].count(), 0.0f);
  sharded(x, valid_rows(c), [&](int shard, i64 first, i64 end) {
    const Walk w = walk_of(c, op, shard, first, end);
    gather_input(w);
    gemm({.m = w.T * w.n, .n = w.G, .k = w.F, .a = w.input, .lda = w.F, .b = w.w_ih_t, .ldb = w.G,
          .c = w.gates, .ldc = w.G});
    x.kernels.add_bias(w.gates, real(c.param[2]), w.T * w.n, w.G);
    for (i64 t = 0; t < w.T; ++t) step_forward(x, w, t);
  });
}

void backward(Context& x, const Call& c, const Recurrent& op) {
  const bool wanted = begin_gradient(c, 0);
  const Walk all = walk_of(c, op, 0, 0, 0);
  std::fill_n(all.parts, x.threads * all.part_size(), 0.0f);
  sharded(x, valid_rows(c), [&](int shard, i64 first, i64 end) {
    const Walk w = walk_of(c, op, shard, first, end);
    gather_input(w);
    std::fill_n(w.d_state, w.n * w.H, 0.0f);
    std::fill_n(w.d_cell, w.n * w.H, 0.0f);
    for (i64 t = w.T - 1; t >= 0; --t) step_backward(x, w, t);
    parameter_parts(x, w);
    if (wanted) input_gradient(x, w);
  });
  const float* part = all.parts;
  reduce_parts(x, real(c.d_param[0]), all.G * all.F, part, all.part_size());
  part += padded(all.G * all.F);
  reduce_parts(x, real(c.d_param[1]), all.G * all.H, part, all.part_size());
  part += padded(all.G * all.H);
  reduce_parts(x, real(c.d_param[2]), all.G, part, all.part_size());
}

}  // namespace cohort::cpu
