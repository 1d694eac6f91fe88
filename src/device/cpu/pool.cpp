#include "device/cpu/cpu_impl.h"

namespace cohort::cpu {
namespace {

// use(output offset, offset of the first maximum) of row r.
template <class Use>
void each_pool(const Call& c, const MaxPool2d& op, i64 r, Use use) {
  const Shape& in = c.in[0].shape;
  const i64 n = row_size(c.out[0]), channels = in[3], columns = c.out[0].shape[2];
  for (i64 o = r * n; o < (r + 1) * n; ++o) {
    const i64 k = o % channels, q = o % n / channels;
    const i64 top = q / columns * op.stride - op.padding;
    const i64 left = q % columns * op.stride - op.padding;
    i64 best = -1;
    for (i64 y = std::max<i64>(top, 0); y < std::min(top + op.size, in[1]); ++y)
      for (i64 x = std::max<i64>(left, 0); x < std::min(left + op.size, in[2]); ++x) {
        const i64 at = ((r * in[1] + y) * in[2] + x) * channels + k;
        if (best < 0 || real(c.in[0])[at] > real(c.in[0])[best]) best = at;
      }
    use(o, best);
  }
}

// use(output offset of C values, input offset of C values) for each place of each window of row r.
template <class Use>
void each_place(const Call& c, const AvgPool2d& op, i64 r, Use use) {
  const Shape& in = c.in[0].shape;
  const i64 n = row_size(c.out[0]), channels = in[3], columns = c.out[0].shape[2];
  for (i64 q = 0; q < n / channels; ++q)
    for (i64 t = 0; t < op.size * op.size; ++t) {
      const i64 y = q / columns * op.stride + t / op.size;
      const i64 x = q % columns * op.stride + t % op.size;
      use(r * n + q * channels, ((r * in[1] + y) * in[2] + x) * channels);
    }
}
template <class Use>
void each_place(const Call& c, const GlobalAvgPool&, i64 r, Use use) {
  const Shape& in = c.in[0].shape;
  for (i64 p = r * in[1] * in[2]; p < (r + 1) * in[1] * in[2]; ++p) use(r * in[3], p * in[3]);
}
i64 window_places(const Call&, const AvgPool2d& op) { return op.size * op.size; }
i64 window_places(const Call& c, const GlobalAvgPool&) { return c.in[0].shape[1] * c.in[0].shape[2]; }

template <class Pool>
void average(Context& x, const Call& c, const Pool& op) {
  const i64 n = row_size(c.out[0]), channels = last(c.out[0].shape);
  const float share = 1 / static_cast<float>(window_places(c, op));
  sharded(x, valid_rows(c), [&](int, i64 first, i64 end) {
    for (i64 r = first; r < end; ++r) {
      float* out = real(c.out[0]) + r * n;
      std::fill_n(out, n, 0.0f);
      each_place(c, op, r, [&](i64 to, i64 from) {
        x.kernels.add(real(c.out[0]) + to, real(c.in[0]) + from, channels);
      });
      for (i64 k = 0; k < n; ++k) out[k] *= share;
    }
  });
}

template <class Pool>
void average_back(Context& x, const Call& c, const Pool& op) {
  if (!begin_gradient(c, 0)) return;
  const i64 channels = last(c.out[0].shape);
  const float share = 1 / static_cast<float>(window_places(c, op));
  sharded(x, valid_rows(c), [&](int, i64 first, i64 end) {
    for (i64 r = first; r < end; ++r)
      each_place(c, op, r, [&](i64 from, i64 to) {
        x.kernels.axpy(real(c.d_in[0]) + to, share, real(c.d_out[0]) + from, channels);
      });
  });
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

void forward(Context& x, const Call& c, const MaxPool2d& op) {
  sharded(x, valid_rows(c), [&](int, i64 first, i64 end) {
    for (i64 r = first; r < end; ++r)
      each_pool(c, op, r, [&](i64 o, i64 at) { real(c.out[0])[o] = real(c.in[0])[at]; });
  });
}
void backward(Context& x, const Call& c, const MaxPool2d& op) {
  if (!begin_gradient(c, 0)) return;
  sharded(x, valid_rows(c), [&](int, i64 first, i64 end) {
    for (i64 r = first; r < end; ++r)
      each_pool(c, op, r, [&](i64 o, i64 at) { real(c.d_in[0])[at] += real(c.d_out[0])[o]; });
  });
}

void forward(Context& x, const Call& c, const AvgPool2d& op) { average(x, c, op); }
void backward(Context& x, const Call& c, const AvgPool2d& op) { average_back(x, c, op); }
void forward(Context& x, const Call& c, const GlobalAvgPool& op) { average(x, c, op); }
void backward(Context& x, const Call& c, const GlobalAvgPool& op) { average_back(x, c, op); }

}  // namespace cohort::cpu
