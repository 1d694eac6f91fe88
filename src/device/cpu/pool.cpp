#include "device/cpu/cpu_impl.h"

namespace cohort::cpu {
namespace {

// use(output offset, offset of the first maximum) over the valid rows.
template <class Use>
void each_pool(const Call& c, const MaxPool2d& op, Use use) {
  const Shape& in = c.in[0].shape;
  const i64 n = row_size(c.out[0]), channels = in[3], columns = c.out[0].shape[2];
  for (i64 o = 0; o < valid_rows(c) * n; ++o) {
    const i64 r = o / n, k = o % channels, q = o % n / channels;
    i64 best = -1;
    for (i64 t = 0; t < op.size * op.size; ++t) {
      const i64 y = q / columns * op.stride + t / op.size;
      const i64 x = q % columns * op.stride + t % op.size;
      const i64 at = ((r * in[1] + y) * in[2] + x) * channels + k;
      if (best < 0 || real(c.in[0])[at] > real(c.in[0])[best]) best = at;
    }
    use(o, best);
  }
}

}  // namespace

void forward(Context&, const Call& c, const MaxOverTime&) {
  const i64 steps = c.in[0].shape[1], features = last(c.in[0].shape);
  for (i64 i = 0; i < valid_rows(c) * features; ++i) {
    const i64 r = i / features, f = i % features, valid = steps_in(c, 0, r);
    const float* x = real(c.in[0]) + r * steps * features + f;
    float best = valid > 0 ? x[0] : 0;
    for (i64 t = 1; t < valid; ++t) best = std::max(best, x[t * features]);
    real(c.out[0])[i] = best;
  }
}
void backward(Context&, const Call& c, const MaxOverTime&) {
  if (!begin_gradient(c, 0)) return;
  const i64 steps = c.in[0].shape[1], features = last(c.in[0].shape);
  for (i64 i = 0; i < valid_rows(c) * features; ++i) {
    const i64 r = i / features, first = r * steps * features + i % features;
    const float* x = real(c.in[0]) + first;
    i64 best = 0;
    for (i64 t = 1; t < steps_in(c, 0, r); ++t)
      if (x[t * features] > x[best * features]) best = t;
    if (steps_in(c, 0, r) > 0)
      real(c.d_in[0])[first + best * features] += real(c.d_out[0])[i];
  }
}

void forward(Context&, const Call& c, const MaxPool2d& op) {
  each_pool(c, op, [&](i64 o, i64 at) { real(c.out[0])[o] = real(c.in[0])[at]; });
}
void backward(Context&, const Call& c, const MaxPool2d& op) {
  if (!begin_gradient(c, 0)) return;
  each_pool(c, op, [&](i64 o, i64 at) { real(c.d_in[0])[at] += real(c.d_out[0])[o]; });
}

}  // namespace cohort::cpu
