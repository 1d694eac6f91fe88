// conv2d 3x3 of few channels with its 2x2 max pool fused: results before pooling stay in registers,
// one byte per output says which of the four won. The activation comes after the maximum, as it
// keeps order.
#include "device/cpu/conv_impl.h"

namespace cohort::cpu {
namespace {

struct Fused {
  const Call& c;
  Activation activation;
  i64 height, width, channels, filters;
  i64 cells_high() const { return (height - 2) / 2; }
  i64 cells_wide() const { return (width - 2) / 2; }
  i64 cells() const { return cells_high() * cells_wide(); }
  i64 taps() const { return 9 * channels; }
  i64 image() const { return height * width * channels; }
  i64 outputs() const { return cells() * filters; }
  // Of one shard: weights or their gradient [taps, padded filters], bias gradient, d of one row.
  i64 bias_at() const { return taps() * padded(filters); }
  i64 d_at() const { return bias_at() + padded(filters); }
  i64 part_size() const { return d_at() + padded(outputs()); }
  float* part(i64 shard) const {
    return reinterpret_cast<float*>(c.scratch.data) + shard * part_size();
  }
  u8* choice(i64 r) const { return c.saved.as<u8>() + r * outputs(); }
  const float* in(i64 r) const { return real(c.in[0]) + r * image(); }
};

Fused fused(const Call& c, const Conv2d& op) {
  const Shape& in = c.in[0].shape;
  return {c, op.activation, in[1], in[2], in[3], op.filters};
}

// d = gradient of the row's maxima before activation.
void input_gradient(const Fused& t, i64 r, const float* d) {
  float* d_in = real(t.c.d_in[0]) + r * t.image();
  const u8* choice = t.choice(r);
  const i64 line = 3 * t.channels;
  for (i64 q = 0; q < t.cells(); ++q)
    for (i64 f = 0; f < t.filters; ++f) {
      const i64 k = choice[q * t.filters + f];
      const i64 y = q / t.cells_wide() * 2 + k / 2, x = q % t.cells_wide() * 2 + k % 2;
      const float* weight = real(t.c.param[0]) + f * t.taps();
      for (i64 a = 0; a < 3; ++a)
        for (i64 b = 0; b < line; ++b)
          d_in[((y + a) * t.width + x) * t.channels + b] +=
              d[q * t.filters + f] * weight[a * line + b];
    }
}

}  // namespace

bool is_conv_pool(const Call& c, const Conv2d& op) {
  const Shape& in = c.in[0].shape;
  return op.kernel == 3 && op.stride == 1 && op.padding == 0 && op.pool == 2 && in[3] <= 4 &&
         op.groups == 1 && op.bias;
}

Needs conv_pool_needs(const Call& c, const Conv2d& op, i64 threads) {
  const Fused t = fused(c, op);
  Needs needs;
  needs.scratch = 4 * threads * t.part_size();
  needs.saved = c.in[0].shape[0] * t.outputs();
  return needs;
}

void conv_pool_forward(Context& x, const Call& c, const Conv2d& op) {
  const Fused t = fused(c, op);
  const i64 stride = padded(t.filters);
  float* weight = t.part(0);
  std::fill_n(weight, t.bias_at(), 0.0f);
  for (i64 f = 0; f < t.filters; ++f)
    for (i64 k = 0; k < t.taps(); ++k)
      weight[k * stride + f] = real(c.param[0])[f * t.taps() + k];
  sharded(x, valid_rows(c), [&](int, i64 first, i64 end) {
    for (i64 r = first; r < end; ++r) {
      float* out = real(c.out[0]) + r * t.outputs();
      x.kernels.conv_pool({t.cells_high(), t.cells_wide(), t.width, t.channels, t.filters, stride,
                           t.in(r), weight, real(c.param[1]), out, t.choice(r)});
      activate(x, t.activation, out, t.outputs());
    }
  });
  zero_padding(c.out[0], valid_rows(c));
}

void conv_pool_backward(Context& x, const Call& c, const Conv2d& op) {
  const Fused t = fused(c, op);
  const i64 stride = padded(t.filters);
  for (i64 shard = 0; shard < x.threads; ++shard) std::fill_n(t.part(shard), t.d_at(), 0.0f);
  const bool wanted = begin_gradient(c, 0);
  sharded(x, valid_rows(c), [&](int shard, i64 first, i64 end) {
    float* part = t.part(shard);
    float* d = part + t.d_at();
    for (i64 r = first; r < end; ++r) {
      activate_back(x, t.activation, d, real(c.d_out[0]) + r * t.outputs(),
                    real(c.out[0]) + r * t.outputs(), t.outputs());
      x.kernels.conv_pool_back({t.cells_high(), t.cells_wide(), t.width, t.channels, t.filters,
                                stride, t.in(r), d, t.choice(r), part, part + t.bias_at()});
      if (wanted) input_gradient(t, r, d);
    }
  });
  for (i64 shard = 0; shard < x.threads; ++shard) {
    const float* part = t.part(shard);
    for (i64 f = 0; f < t.filters; ++f)
      for (i64 k = 0; k < t.taps(); ++k)
        real(c.d_param[0])[f * t.taps() + k] += part[k * stride + f];
    x.kernels.add(real(c.d_param[1]), part + t.bias_at(), t.filters);
  }
}

}  // namespace cohort::cpu
