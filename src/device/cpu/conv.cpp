// Convolutions as one GEMM per row and group over its unfolded taps; conv1d is the case of one
// column, and 1x1 without stride is the input as it lies. A
// fused max pool keeps the place of each maximum (i32) for the backward pass. Common fused cases
// have files of their own.
#include "device/cpu/conv_impl.h"

namespace cohort::cpu {
namespace {

struct Window {
  const Call& c;
  Activation activation;
  i64 height, width, channels, out_height, out_width, filters;
  i64 kernel_h, kernel_w, stride, pad_h, pad_w;
  i64 pool;                    // 0: none
  i64 groups = 1;
  bool bias = true;
  i64 places() const { return out_height * out_width; }
  i64 seen() const { return channels / groups; }   // channels that a filter reads
  i64 taps() const { return kernel_h * kernel_w * seen(); }
  i64 filters_of_group() const { return filters / groups; }
  i64 weights_of_group() const { return filters_of_group() * taps(); }
  bool plain() const {
    return kernel_h * kernel_w == 1 && stride == 1 && pad_h == 0 && groups == 1 && !is_ragged(c, 0);
  }
  i64 outputs() const {
    return pool == 0 ? places() : (out_height / pool) * (out_width / pool);
  }
  i64 valid_places(i64 r) const {
    if (!is_ragged(c, 0)) return places();
    Value out = c.graph->values[static_cast<std::size_t>(c.node->in[0])];
    out.shrink += kernel_h - 1;
    return std::min<i64>(valid_steps(out, c.lengths[0].as<i32>()[r]), places());
  }
  i64 valid_height(i64 r) const { return is_ragged(c, 0) ? steps_in(c, 0, r) : height; }
  i64 part_size() const {
    return padded(places() * taps()) * 2 + padded(places() * filters) + padded(filters * taps()) +
           padded(filters);
  }
};

Window window_of(const Call& c, const Conv1d& op) {
  const Shape& in = c.in[0].shape;
  return {c, op.activation, in[1], 1, in[2], in[1] - op.width + 1, 1, op.filters,
          op.width, 1, 1, 0, 0, 0};
}

Window window_of(const Call& c, const Conv2d& op) {
  const Shape& in = c.in[0].shape;
  const auto extent = [&](i64 n) { return (n + 2 * op.padding - op.kernel) / op.stride + 1; };
  return {c, op.activation, in[1], in[2], in[3], extent(in[1]), extent(in[2]), op.filters,
          op.kernel, op.kernel, op.stride, op.padding, op.padding, op.pool, op.groups, op.bias};
}

struct Buffers {
  float *unfolded, *d_unfolded, *map, *d_weight, *d_bias;
  Buffers(const Window& w, i64 shard) {
    unfolded = reinterpret_cast<float*>(w.c.scratch.data) + shard * w.part_size();
    d_unfolded = unfolded + padded(w.places() * w.taps());
    map = d_unfolded + padded(w.places() * w.taps());
    d_weight = map + padded(w.places() * w.filters);
    d_bias = d_weight + padded(w.filters * w.taps());
  }
};

// use(offset in the unfolded row, offset in the input row or -1) for each tap of seen() values.
template <class Use>
void each_tap(const Window& w, i64 r, i64 group, i64 places, Use use) {
  const i64 end = w.valid_height(r);
  i64 to = 0;
  for (i64 p = 0; p < places; ++p)
    for (i64 a = 0; a < w.kernel_h; ++a)
      for (i64 b = 0; b < w.kernel_w; ++b, to += w.seen()) {
        const i64 y = p / w.out_width * w.stride + a - w.pad_h;
        const i64 x = p % w.out_width * w.stride + b - w.pad_w;
        const bool inside = y >= 0 && y < end && x >= 0 && x < w.width;
        use(to, inside ? (y * w.width + x) * w.channels + group * w.seen() : -1);
      }
}

// The taps [places, taps] of a group: unfolded to `to`, or where they lie.
const float* unfold(const Window& w, i64 r, i64 group, i64 places, float* to) {
  const float* in = real(w.c.in[0]) + r * w.height * w.width * w.channels;
  if (w.plain()) return in;
  each_tap(w, r, group, places, [&](i64 at, i64 from) {
    const auto bytes = static_cast<std::size_t>(w.seen()) * sizeof(float);
    if (from < 0)
      std::memset(to + at, 0, bytes);
    else
      std::memcpy(to + at, in + from, bytes);
  });
  return to;
}

// The place, among all of the map, of the greatest result of `filter` in pool cell q.
i64 best_place(const Window& w, const float* map, i64 q, i64 filter) {
  const i64 columns = w.out_width / w.pool;
  const i64 corner = q / columns * w.pool * w.out_width + q % columns * w.pool;
  i64 best = corner;
  for (i64 k = 1; k < w.pool * w.pool; ++k) {
    const i64 p = corner + k / w.pool * w.out_width + k % w.pool;
    if (map[p * w.filters + filter] > map[best * w.filters + filter]) best = p;
  }
  return best;
}

void pool_row(const Window& w, const float* map, i64 r) {
  const i64 n = w.outputs() * w.filters;
  float* out = real(w.c.out[0]) + r * n;
  i32* saved = reinterpret_cast<i32*>(w.c.saved.data) + r * n;
  for (i64 q = 0; q < w.outputs(); ++q)
    for (i64 f = 0; f < w.filters; ++f) {
      const i64 best = best_place(w, map, q, f);
      saved[q * w.filters + f] = static_cast<i32>(best);
      out[q * w.filters + f] = map[best * w.filters + f];
    }
}

void convolve(Context& x, const Window& w) {
  sharded(x, valid_rows(w.c), [&](int shard, i64 first, i64 end) {
    const Buffers s(w, shard);
    for (i64 r = first; r < end; ++r) {
      const i64 valid = w.valid_places(r);
      float* map = w.pool ? s.map : real(w.c.out[0]) + r * w.places() * w.filters;
      for (i64 g = 0; g < w.groups; ++g)
        gemm({.b_t = true, .m = valid, .n = w.filters_of_group(), .k = w.taps(),
              .a = unfold(w, r, g, valid, s.unfolded), .lda = w.taps(),
              .b = real(w.c.param[0]) + g * w.weights_of_group(), .ldb = w.taps(),
              .c = map + g * w.filters_of_group(), .ldc = w.filters});
      if (w.bias) x.kernels.add_bias(map, real(w.c.param[1]), valid, w.filters);
      activate(x, w.activation, map, valid * w.filters);
      if (w.pool)
        pool_row(w, map, r);
      else
        std::fill_n(map + valid * w.filters, (w.places() - valid) * w.filters, 0.0f);
    }
  });
  zero_padding(w.c.out[0], valid_rows(w.c));
}

// map = gradient of the row's results before activation.
void row_gradient(Context& x, const Window& w, i64 r, i64 valid, float* map) {
  const i64 n = w.outputs() * w.filters;
  const float* dy = real(w.c.d_out[0]) + r * n;
  const float* y = real(w.c.out[0]) + r * n;
  if (w.pool == 0) return activate_back(x, w.activation, map, dy, y, valid * w.filters);
  std::fill_n(map, valid * w.filters, 0.0f);
  const i32* saved = reinterpret_cast<const i32*>(w.c.saved.data) + r * n;
  for (i64 k = 0; k < n; ++k) {
    float d;
    activate_back(x, w.activation, &d, dy + k, y + k, 1);
    map[saved[k] * w.filters + k % w.filters] = d;
  }
}

struct GroupOfRow { i64 row, group, places; const float* d_map; };

void input_gradient(Context& x, const Window& w, const Buffers& s, const GroupOfRow& at) {
  float* d_in = real(w.c.d_in[0]) + at.row * w.height * w.width * w.channels;
  gemm({.m = at.places, .n = w.taps(), .k = w.filters_of_group(), .a = at.d_map, .lda = w.filters,
        .b = real(w.c.param[0]) + at.group * w.weights_of_group(), .ldb = w.taps(),
        .beta = w.plain() ? 1.0f : 0.0f, .c = w.plain() ? d_in : s.d_unfolded, .ldc = w.taps()});
  if (w.plain()) return;
  each_tap(w, at.row, at.group, at.places, [&](i64 from, i64 to) {
    if (to >= 0) x.kernels.add(d_in + to, s.d_unfolded + from, w.seen());
  });
}

void row_backward(Context& x, const Window& w, const Buffers& s, i64 r) {
  const i64 valid = w.valid_places(r);
  row_gradient(x, w, r, valid, s.map);
  for (i64 p = 0; w.bias && p < valid; ++p)
    x.kernels.add(s.d_bias, s.map + p * w.filters, w.filters);
  for (i64 g = 0; g < w.groups; ++g) {
    const float* d_map = s.map + g * w.filters_of_group();
    gemm({.a_t = true, .m = w.filters_of_group(), .n = w.taps(), .k = valid, .a = d_map,
          .lda = w.filters, .b = unfold(w, r, g, valid, s.unfolded), .ldb = w.taps(), .beta = 1,
          .c = s.d_weight + g * w.weights_of_group(), .ldc = w.taps()});
    if (w.c.d_in[0].data) input_gradient(x, w, s, {r, g, valid, d_map});
  }
}

void convolve_back(Context& x, const Window& w) {
  begin_gradient(w.c, 0);
  for (i64 shard = 0; shard < x.threads; ++shard) {
    const Buffers s(w, shard);
    std::fill_n(s.d_weight, w.filters * w.taps(), 0.0f);
    std::fill_n(s.d_bias, w.filters, 0.0f);
  }
  sharded(x, valid_rows(w.c), [&](int shard, i64 first, i64 end) {
    const Buffers s(w, shard);
    for (i64 r = first; r < end; ++r) row_backward(x, w, s, r);
  });
  const Buffers s(w, 0);
  reduce_parts(x, real(w.c.d_param[0]), w.filters * w.taps(), s.d_weight, w.part_size());
  if (w.bias) reduce_parts(x, real(w.c.d_param[1]), w.filters, s.d_bias, w.part_size());
}

Needs needs_of(const Window& w, i64 threads) {
  Needs needs;
  needs.scratch = 4 * threads * w.part_size();
  if (w.pool) needs.saved = 4 * w.c.in[0].shape[0] * w.outputs() * w.filters;
  return needs;
}

}  // namespace

Needs needs(const Call& c, const Conv1d& op, i64 threads) {
  return op.max_over_time ? text_needs(c, op, threads) : needs_of(window_of(c, op), threads);
}
Needs needs(const Call& c, const Conv2d& op, i64 threads) {
  return is_conv_pool(c, op) ? conv_pool_needs(c, op, threads)
                             : needs_of(window_of(c, op), threads);
}
void forward(Context& x, const Call& c, const Conv1d& op) {
  op.max_over_time ? text_forward(x, c, op) : convolve(x, window_of(c, op));
}
void backward(Context& x, const Call& c, const Conv1d& op) {
  op.max_over_time ? text_backward(x, c, op) : convolve_back(x, window_of(c, op));
}
void forward(Context& x, const Call& c, const Conv2d& op) {
  is_conv_pool(c, op) ? conv_pool_forward(x, c, op) : convolve(x, window_of(c, op));
}
void backward(Context& x, const Call& c, const Conv2d& op) {
  is_conv_pool(c, op) ? conv_pool_backward(x, c, op) : convolve_back(x, window_of(c, op));
}

}  // namespace cohort::cpu
