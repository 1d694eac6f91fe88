// Recurrent layers (tanh RNN, LSTM, GRU). Vectors of `units` are padded to a multiple of 16 by units whose
// weights are 0: they stay 0 both ways and let every loop run over whole registers. A shard walks its
// rows through time in blocks of steps, so that gates' gradients never leave the cache. A step's sums
// are as many as biases: the GRU's r, z, W_in x + b_in, W_hn h + b_hn, where the weights of the input
// have zeros for the last, those of the state for the one before.
#include "device/cpu/cpu_impl.h"

namespace cohort::cpu {
namespace {

constexpr i64 block_values = 1 << 17;   // gate gradients of a block of steps: 512 KiB

// Sizes: H units, G sums, F features; P and Q = G * P, R: padded H and F. Arrays of steps are time
// first: vector (t, i) of row first + i is at (t * n + i).
struct Walk {
  const Call& c;
  const Recurrent& op;
  i64 H, G, F, T, rows, P, Q, R, block;   // block: vectors of a block of steps
  i64 n = 0, first = 0, steps = 0;        // rows of this shard; steps: of its longest row
  float *gates = nullptr, *cells = nullptr, *states = nullptr;           // saved
  float *w_ih = nullptr, *w_hh = nullptr, *bias = nullptr;               // packed, shared
  float *back_ih = nullptr, *back_hh = nullptr;                          // packed, shared
  float *input = nullptr, *d_gates = nullptr, *d_input = nullptr;        // of a block
  float *d_state = nullptr, *d_cell = nullptr, *part = nullptr;          // of the shard
  bool gru() const { return op.cell == Cell::gru; }
  i64 part_size() const { return padded(Q * F) + padded(Q * H) + Q; }
  i64 shared_size() const { return F * Q + padded(H * Q) + Q + Q * R + Q * P; }
  i64 shard_size(i64 most) const {
    return padded(block * F) + block * (Q + R) + 2 * most * P + part_size();
  }
  i64 steps_of_block() const { return std::clamp<i64>(block / std::max<i64>(n, 1), 1, T); }
};

Walk sizes(const Call& c, const Recurrent& op, i64 threads) {
  const i64 G = biases_of(op.cell), F = last(c.in[0].shape);
  Walk w{c, op, op.units, G, F, c.in[0].shape[1], c.in[0].shape[0], padded(op.units),
         G * padded(op.units), padded(F), 0};
  const i64 most = (w.rows + threads - 1) / threads;
  w.block = std::min(most * w.T, std::max(most, block_values / w.Q));
  return w;
}

Walk walk_of(const Call& c, const Recurrent& op, i64 threads, i64 shard, i64 first, i64 end) {
  Walk w = sizes(c, op, threads);
  w.first = first;
  w.n = end - first;
  for (i64 r = first; r < end; ++r) w.steps = std::max(w.steps, steps_in(c, 0, r));
  const i64 all = w.rows * w.T, most = (w.rows + threads - 1) / threads;
  float* saved = reinterpret_cast<float*>(c.saved.data);
  w.gates = saved + first * w.T * w.Q;
  w.cells = saved + all * w.Q + first * w.T * w.P;
  w.states = saved + all * (w.Q + w.P) + first * w.T * w.P;
  float* at = reinterpret_cast<float*>(c.scratch.data);
  const auto take = [&](i64 values) {
    float* here = at;
    at += values;
    return here;
  };
  w.w_ih = take(w.F * w.Q);
  w.w_hh = take(padded(w.H * w.Q));
  w.bias = take(w.Q);
  w.back_ih = take(w.Q * w.R);
  w.back_hh = take(w.Q * w.P);
  at += shard * w.shard_size(most);
  w.input = take(padded(w.block * w.F));
  w.d_gates = take(w.block * w.Q);
  w.d_input = take(w.block * w.R);
  w.d_state = take(most * w.P);
  w.d_cell = take(most * w.P);
  w.part = take(w.part_size());
  return w;
}

enum class Of : u8 { input, state, bias };   // in the order of the parameters
i64 rows_of(const Walk& w, Of of) {
  return of == Of::bias ? w.G * w.H : gates_of(w.op.cell) * w.H;
}
// Row of the padded sums (sum * P + unit) that row `row` of a parameter is.
i64 padded_row(const Walk& w, i64 row, Of of) {
  const i64 gate = row / w.H, sum = w.gru() && of == Of::state && gate == 2 ? 3 : gate;
  return sum * w.P + row % w.H;
}

// Where the packed product looks for (row k, column) of B [depth, columns].
i64 packed_at(i64 k, i64 column, i64 depth, i64 columns) {
  const i64 panel = column / packed_panel * packed_panel;
  return panel * depth + k * std::min(packed_panel, columns - panel) + column - panel;
}

// B [k, Q] = weight [rows, k] transposed.
void pack_forward(const Walk& w, const float* weight, Of of, i64 k, float* to) {
  std::fill_n(to, k * w.Q, 0.0f);
  for (i64 row = 0; row < rows_of(w, of); ++row)
    for (i64 j = 0; j < k; ++j)
      to[packed_at(j, padded_row(w, row, of), k, w.Q)] = weight[row * k + j];
}

// B [Q, padded(k)] = weight [rows, k].
void pack_backward(const Walk& w, const float* weight, Of of, i64 k, float* to) {
  std::fill_n(to, w.Q * padded(k), 0.0f);
  for (i64 row = 0; row < rows_of(w, of); ++row)
    for (i64 j = 0; j < k; j += 16)
      std::copy_n(weight + row * k + j, std::min<i64>(16, k - j),
                  to + packed_at(padded_row(w, row, of), j, w.Q, padded(k)));
}

void gather_input(const Walk& w, i64 from, i64 to) {
  for (i64 i = 0; i < w.n; ++i) {
    const i64 valid = steps_in(w.c, 0, w.first + i);
    const float* row = real(w.c.in[0]) + (w.first + i) * w.T * w.F;
    for (i64 t = from; t < to; ++t) {
      float* x = w.input + ((t - from) * w.n + i) * w.F;
      if (t < valid)
        std::copy_n(row + t * w.F, w.F, x);
      else
        std::fill_n(x, w.F, 0.0f);
    }
  }
}

void step_forward(Context& x, const Walk& w, i64 t) {
  float* all = w.gates + t * w.n * w.Q;
  if (t > 0)
    x.kernels.gemm({w.n, w.Q, w.H, w.states + (t - 1) * w.n * w.P, w.P, w.w_hh, nullptr, true, all,
                    w.Q});
  for (i64 i = 0; i < w.n; ++i) {
    const i64 r = w.first + i, valid = steps_in(w.c, 0, r);
    float* gates = all + i * w.Q;
    float* cell = w.cells + (t * w.n + i) * w.P;
    float* state = w.states + (t * w.n + i) * w.P;
    if (t >= valid) {
      std::fill_n(state, w.P, 0.0f);
      continue;
    }
    switch (w.op.cell) {
      case Cell::lstm:
        x.kernels.lstm({w.P, gates, t > 0 ? cell - w.n * w.P : nullptr, cell, state});
        break;
      case Cell::gru:
        x.kernels.gru({w.P, gates, t > 0 ? state - w.n * w.P : nullptr, state});
        break;
      case Cell::tanh:
        x.kernels.tanh(gates, w.P);
        std::copy_n(gates, w.P, state);
    }
    if (w.op.every_step || t + 1 == valid)
      std::copy_n(state, w.H, real(w.c.out[0]) + (w.op.every_step ? r * w.T + t : r) * w.H);
  }
}

// d_gates: of step t.
void step_backward(Context& x, const Walk& w, i64 t, float* d_gates) {
  for (i64 i = 0; i < w.n; ++i) {
    const i64 r = w.first + i, valid = steps_in(w.c, 0, r);
    if (t >= valid) {
      std::fill_n(d_gates + i * w.Q, w.Q, 0.0f);
      continue;
    }
    float* d_state = w.d_state + i * w.P;
    if (w.op.every_step || t + 1 == valid)
      x.kernels.add(d_state, real(w.c.d_out[0]) + (w.op.every_step ? r * w.T + t : r) * w.H, w.H);
    const float* gates = w.gates + (t * w.n + i) * w.Q;
    const float* cell = w.cells + (t * w.n + i) * w.P;
    const float* before = w.states + ((t - 1) * w.n + i) * w.P;
    switch (w.op.cell) {
      case Cell::lstm:
        x.kernels.lstm_back({w.P, gates, t > 0 ? cell - w.n * w.P : nullptr, cell, d_state,
                             w.d_cell + i * w.P, d_gates + i * w.Q});
        break;
      case Cell::gru:
        x.kernels.gru_back({w.P, gates, t > 0 ? before : nullptr, d_state, d_gates + i * w.Q});
        break;
      case Cell::tanh:
        x.kernels.tanh_back(d_gates + i * w.Q, d_state, gates, w.P);
    }
  }
  if (t > 0)
    x.kernels.gemm({w.n, w.P, w.Q, d_gates, w.Q, w.back_hh, nullptr, w.gru(), w.d_state, w.P});
}

// Adds what steps [from, to) give to the shard's part: d_ih [Q, F], d_hh [Q, H], d_bias [Q].
void parameter_part(Context& x, const Walk& w, i64 from, i64 to) {
  float* d_ih = w.part;
  float* d_hh = d_ih + padded(w.Q * w.F);
  float* d_bias = d_hh + padded(w.Q * w.H);
  const i64 vectors = (to - from) * w.n, skip = from == 0 ? w.n : 0;   // no state before step 0
  gemm({.a_t = true, .m = w.Q, .n = w.F, .k = vectors, .a = w.d_gates, .lda = w.Q, .b = w.input,
        .ldb = w.F, .beta = 1, .c = d_ih, .ldc = w.F});
  if (vectors > skip)
    gemm({.a_t = true, .m = w.Q, .n = w.H, .k = vectors - skip, .a = w.d_gates + skip * w.Q,
          .lda = w.Q, .b = w.states + ((from - 1) * w.n + skip) * w.P, .ldb = w.P, .beta = 1,
          .c = d_hh, .ldc = w.H});
  for (i64 v = 0; v < vectors; ++v) x.kernels.add(d_bias, w.d_gates + v * w.Q, w.Q);
}

void input_gradient(Context& x, const Walk& w, i64 from, i64 to) {
  x.kernels.gemm({(to - from) * w.n, w.R, w.Q, w.d_gates, w.Q, w.back_ih, nullptr, false, w.d_input,
                  w.R});
  for (i64 i = 0; i < w.n; ++i)
    for (i64 t = from; t < to; ++t)
      x.kernels.add(real(w.c.d_in[0]) + ((w.first + i) * w.T + t) * w.F,
                    w.d_input + ((t - from) * w.n + i) * w.R, w.F);
}

// Every shard's part [Q, k] added to the gradient [rows, k].
void reduce_rows(Context& x, const Walk& w, Of of, i64 k, const float* part) {
  const i64 stride = w.shard_size((w.rows + x.threads - 1) / x.threads);
  float* to = real(w.c.d_param[static_cast<std::size_t>(of)]);
  for (i64 row = 0; row < rows_of(w, of); row += w.H)
    reduce_parts(x, to + row * k, w.H * k, part + padded_row(w, row, of) * k, stride);
}

}  // namespace

Needs needs(const Call& c, const Recurrent& op, i64 threads) {
  const Walk w = sizes(c, op, threads);
  Needs needs;
  needs.saved = 4 * w.rows * w.T * (w.Q + 2 * w.P);
  needs.scratch = 4 * (w.shared_size() + threads * w.shard_size((w.rows + threads - 1) / threads));
  return needs;
}

void forward(Context& x, const Call& c, const Recurrent& op) {
  const Walk shared = walk_of(c, op, x.threads, 0, 0, 0);
  pack_forward(shared, real(c.param[0]), Of::input, shared.F, shared.w_ih);
  pack_forward(shared, real(c.param[1]), Of::state, shared.H, shared.w_hh);
  pack_forward(shared, real(c.param[2]), Of::bias, 1, shared.bias);
  std::fill_n(real(c.out[0]), c.out[0].count(), 0.0f);
  sharded(x, valid_rows(c), [&](int shard, i64 first, i64 end) {
    const Walk w = walk_of(c, op, x.threads, shard, first, end);
    for (i64 from = 0, by = w.steps_of_block(); from < w.steps; from += by) {
      const i64 to = std::min(from + by, w.steps);
      gather_input(w, from, to);
      x.kernels.gemm({(to - from) * w.n, w.Q, w.F, w.input, w.F, w.w_ih, w.bias, false,
                      w.gates + from * w.n * w.Q, w.Q});
      for (i64 t = from; t < to; ++t) step_forward(x, w, t);
    }
  });
}

void backward(Context& x, const Call& c, const Recurrent& op) {
  const bool wanted = begin_gradient(c, 0);
  const Walk shared = walk_of(c, op, x.threads, 0, 0, 0);
  if (wanted) pack_backward(shared, real(c.param[0]), Of::input, shared.F, shared.back_ih);
  pack_backward(shared, real(c.param[1]), Of::state, shared.H, shared.back_hh);
  const i64 stride = shared.shard_size((shared.rows + x.threads - 1) / x.threads);
  for (i64 shard = 0; shard < x.threads; ++shard)
    std::fill_n(shared.part + shard * stride, shared.part_size(), 0.0f);
  sharded(x, valid_rows(c), [&](int shard, i64 first, i64 end) {
    const Walk w = walk_of(c, op, x.threads, shard, first, end);
    std::fill_n(w.d_state, w.n * w.P, 0.0f);
    std::fill_n(w.d_cell, w.n * w.P, 0.0f);
    for (i64 to = w.steps, by = w.steps_of_block(); to > 0; to -= std::min(by, to)) {
      const i64 from = std::max<i64>(0, to - by);
      gather_input(w, from, to);
      for (i64 t = to - 1; t >= from; --t)
        step_backward(x, w, t, w.d_gates + (t - from) * w.n * w.Q);
      parameter_part(x, w, from, to);
      if (wanted) input_gradient(x, w, from, to);
    }
  });
  const float* part = shared.part;
  reduce_rows(x, shared, Of::input, shared.F, part);
  part += padded(shared.Q * shared.F);
  reduce_rows(x, shared, Of::state, shared.H, part);
  part += padded(shared.Q * shared.H);
  reduce_rows(x, shared, Of::bias, 1, part);
}

}  // namespace cohort::cpu
