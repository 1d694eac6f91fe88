// Convolutions as one GEMM per block of rows and group over the unfolded taps; conv1d is the case of
// one column, and 1x1 without stride takes the input as it lies. A fused max pool keeps the place of
// each maximum (i32) for the backward pass. Common fused cases have files of their own.
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
  // As needs() knows it, before there is data.
  bool ragged() const {
    return c.graph->values[static_cast<std::size_t>(c.node->in[0])].lengths >= 0;
  }
  i64 places() const { return out_height * out_width; }
  i64 seen() const { return channels / groups; }   // channels that a filter reads
  i64 taps() const { return kernel_h * kernel_w * seen(); }
  i64 filters_of_group() const { return filters / groups; }
  i64 weights_of_group() const { return filters_of_group() * taps(); }
  bool plain() const {
    return kernel_h * kernel_w == 1 && stride == 1 && pad_h == 0 && groups == 1 && !ragged();
  }
  i64 outputs() const {
    return pool == 0 ? places() : (out_height / pool) * (out_width / pool);
  }
  i64 valid_places(i64 r) const {
    if (!ragged()) return places();
    Value out = c.graph->values[static_cast<std::size_t>(c.node->in[0])];
    out.shrink += kernel_h - 1;
    return std::min<i64>(valid_steps(out, c.lengths[0].as<i32>()[r]), places());
  }
  i64 valid_height(i64 r) const { return ragged() ? steps_in(c, 0, r) : height; }
  i64 image() const { return height * width * channels; }
  // Rows whose product is taken as one, so that small images do not read all weights each.
  i64 block_rows() const {
    if (ragged()) return 1;
    return std::clamp<i64>(512 / places(), 1, std::max<i64>(c.in[0].shape[0], 1));
  }
  i64 unfolded_size() const { return plain() ? 0 : padded(block_rows() * places() * taps()); }
  i64 part_size() const {
    return unfolded_size() * 2 + padded(block_rows() * places() * filters) +
           padded(filters * taps()) + padded(filters);
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
    d_unfolded = unfolded + w.unfolded_size();
    map = d_unfolded + w.unfolded_size();
    d_weight = map + padded(w.block_rows() * w.places() * w.filters);
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

// Rows [first, first + count) whose places lie one after another; one row where they are ragged.
struct Block { i64 first, count, places; };

template <class Use>
void each_block(const Window& w, i64 first, i64 end, Use use) {
  const i64 most = w.block_rows();
  for (i64 r = first; r < end; r += most) {
    const i64 count = std::min(most, end - r);
    use(Block{r, count, count * w.valid_places(r)});
  }
}

// The taps [places, taps] of a group: unfolded to `to`, or where they lie.
const float* unfold(const Window& w, const Block& b, i64 group, float* to) {
  const float* in = real(w.c.in[0]) + b.first * w.image();
  if (w.plain()) return in;
  const i64 places = b.places / b.count;
  const auto bytes = static_cast<std::size_t>(w.seen()) * sizeof(float);
  for (i64 k = 0; k < b.count; ++k) {
    float* row = to + k * places * w.taps();
    each_tap(w, b.first + k, group, places, [&](i64 at, i64 from) {
      if (from < 0)
        std::memset(row + at, 0, bytes);
      else
        std::memcpy(row + at, in + k * w.image() + from, bytes);
    });
  }
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
    each_block(w, first, end, [&](const Block& b) {
      float* map = w.pool ? s.map : real(w.c.out[0]) + b.first * w.places() * w.filters;
      for (i64 g = 0; g < w.groups; ++g)
        gemm({.b_t = true, .m = b.places, .n = w.filters_of_group(), .k = w.taps(),
              .a = unfold(w, b, g, s.unfolded), .lda = w.taps(),
              .b = real(w.c.param[0]) + g * w.weights_of_group(), .ldb = w.taps(),
              .c = map + g * w.filters_of_group(), .ldc = w.filters});
      if (w.bias) x.kernels.add_bias(map, real(w.c.param[1]), b.places, w.filters);
      activate(x, w.activation, map, b.places * w.filters);
      for (i64 k = 0; w.pool && k < b.count; ++k)
        pool_row(w, map + k * w.places() * w.filters, b.first + k);
      if (b.places < b.count * w.places())
        std::fill_n(map + b.places * w.filters, (w.places() - b.places) * w.filters, 0.0f);
    });
  });
  zero_padding(w.c.out[0], valid_rows(w.c));
}

// map = gradient of the row's results before activation.
void row_gradient(Context& x, const Window& w, i64 r, float* map) {
  const i64 n = w.outputs() * w.filters, results = w.valid_places(r) * w.filters;
  const float* dy = real(w.c.d_out[0]) + r * n;
  const float* y = real(w.c.out[0]) + r * n;
  if (w.pool == 0) return activate_back(x, w.activation, map, dy, y, results);
  std::fill_n(map, results, 0.0f);
  const i32* saved = reinterpret_cast<const i32*>(w.c.saved.data) + r * n;
  for (i64 k = 0; k < n; ++k) {
    float d;
    activate_back(x, w.activation, &d, dy + k, y + k, 1);
    map[saved[k] * w.filters + k % w.filters] = d;
  }
}

void input_gradient(Context& x, const Window& w, const Buffers& s, const Block& b, i64 group) {
  float* d_in = real(w.c.d_in[0]) + b.first * w.image();
  gemm({.m = b.places, .n = w.taps(), .k = w.filters_of_group(),
        .a = s.map + group * w.filters_of_group(), .lda = w.filters,
        .b = real(w.c.param[0]) + group * w.weights_of_group(), .ldb = w.taps(),
        .beta = w.plain() ? 1.0f : 0.0f, .c = w.plain() ? d_in : s.d_unfolded, .ldc = w.taps()});
  if (w.plain()) return;
  const i64 places = b.places / b.count;
  for (i64 k = 0; k < b.count; ++k) {
    const float* from = s.d_unfolded + k * places * w.taps();
    each_tap(w, b.first + k, group, places, [&](i64 at, i64 to) {
      if (to >= 0) x.kernels.add(d_in + k * w.image() + to, from + at, w.seen());
    });
  }
}

void block_backward(Context& x, const Window& w, const Buffers& s, const Block& b) {
  for (i64 k = 0; k < b.count; ++k)
    row_gradient(x, w, b.first + k, s.map + k * w.places() * w.filters);
  for (i64 p = 0; w.bias && p < b.places; ++p)
    x.kernels.add(s.d_bias, s.map + p * w.filters, w.filters);
  for (i64 g = 0; g < w.groups; ++g) {
    gemm({.a_t = true, .m = w.filters_of_group(), .n = w.taps(), .k = b.places,
          .a = s.map + g * w.filters_of_group(), .lda = w.filters,
          .b = unfold(w, b, g, s.unfolded), .ldb = w.taps(), .beta = 1,
          .c = s.d_weight + g * w.weights_of_group(), .ldc = w.taps()});
    if (w.c.d_in[0].data) input_gradient(x, w, s, b, g);
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
    each_block(w, first, end, [&](const Block& b) { block_backward(x, w, s, b); });
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
