#include "device/cpu/cpu_impl.h"

namespace cohort::cpu {
namespace {

// Zeroes the vectors of `data` ([rows, steps, width]) at invalid steps.
void zero_invalid(const Call& c, float* data, i64 width, i64 first_row, i64 end_row) {
  if (c.in[0].shape.size() < 3 || !is_ragged(c, 0)) return;
  const i64 steps = c.in[0].shape[1];
  for (i64 r = first_row; r < end_row; ++r) {
    const i64 valid = steps_in(c, 0, r);
    std::fill_n(data + (r * steps + valid) * width, (steps - valid) * width, 0.0f);
  }
}

}  // namespace

Needs needs(const Call& c, const Dense& op, i64) {
  Needs needs;
  const i64 features = last(c.in[0].shape), vectors = c.in[0].count() / std::max<i64>(features, 1);
  needs.scratch = 4 * vectors * padded(op.units);
  return needs;
}

// out [m, units] = in weight^T, the weight packed beforehand; `room` [m, padded(units)].
void multiply_packed(const Context& x, const PackedGemm& product, i64 units, float* out,
                     float* room) {
  PackedGemm g = product;
  g.c = g.n == units ? out : room;
  x.kernels.gemm(g);
  for (i64 v = 0; g.n != units && v < g.m; ++v)
    std::copy_n(room + v * g.n, units, out + v * units);
}

void forward(Context& x, const Call& c, const Dense& op) {
  const i64 features = last(c.in[0].shape), U = op.units;
  const i64 per_row = row_size(c.in[0]) / features;
  sharded(x, valid_rows(c), [&](int, i64 first, i64 end) {
    float* out = real(c.out[0]) + first * per_row * U;
    const i64 m = (end - first) * per_row;
    const float* in = real(c.in[0]) + first * per_row * features;
    if (x.packs)
      multiply_packed(x, {m, padded(U), features, in, features,
                          x.packs->of(real(c.param[0]), U, features), nullptr, false, nullptr,
                          padded(U)},
                      U, out, reinterpret_cast<float*>(c.scratch.data) + first * per_row * padded(U));
    else
      gemm({.b_t = true, .m = m, .n = U, .k = features, .a = in, .lda = features,
            .b = real(c.param[0]), .ldb = features, .c = out, .ldc = U});
    if (op.bias) x.kernels.add_bias(out, real(c.param[1]), m, U);
    activate(x, op.activation, out, m * U);
    zero_invalid(c, real(c.out[0]), U, first, end);
  });
  zero_padding(c.out[0], valid_rows(c));
}

void backward(Context& x, const Call& c, const Dense& op) {
  const i64 features = last(c.in[0].shape), U = op.units;
  const i64 per_row = row_size(c.in[0]) / features, valid = valid_rows(c);
  float* dz = reinterpret_cast<float*>(c.scratch.data);
  const bool wanted = c.d_in[0].data != nullptr;
  sharded(x, valid, [&](int, i64 first, i64 end) {
    const i64 at = first * per_row, m = (end - first) * per_row;
    activate_back(x, op.activation, dz + at * U, real(c.d_out[0]) + at * U, real(c.out[0]) + at * U,
                  m * U);
    zero_invalid(c, dz, U, first, end);
    if (wanted)
      gemm({.m = m, .n = features, .k = U, .a = dz + at * U, .lda = U, .b = real(c.param[0]),
            .ldb = features, .beta = c.accumulate[0] ? 1.0f : 0.0f,
            .c = real(c.d_in[0]) + at * features, .ldc = features});
  });
  if (wanted && !c.accumulate[0]) zero_padding(c.d_in[0], valid);
  if (valid == 0) return;
  sharded(x, U, [&](int, i64 first, i64 end) {
    gemm({.a_t = true, .m = end - first, .n = features, .k = valid * per_row, .a = dz + first,
          .lda = U, .b = real(c.in[0]), .ldb = features, .beta = 1,
          .c = real(c.d_param[0]) + first * features, .ldc = features});
    if (!op.bias) return;
    for (i64 v = 0; v < valid * per_row; ++v)
      x.kernels.add(real(c.d_param[1]) + first, dz + v * U + first, end - first);
  });
}

}  // namespace cohort::cpu
