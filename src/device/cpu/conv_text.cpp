// conv1d with its max over time fused. Forward: one GEMM per row over its valid places, whose windows
// lie in the input as they are, then the maximum, then bias and activation, all of which keep order.
// Backward: each (row, filter) has one place, so one window of the input and
// one of the weight are added; dense gradients of the places are never formed.
#include "device/cpu/conv_impl.h"

namespace cohort::cpu {
namespace {

struct TextConv {
  const Call& c;
  Activation activation;
  i64 steps, width, taps, filters;   // taps: steps of a window
  i64 window() const { return taps * width; }
  i64 end(i64 r) const { return is_ragged(c, 0) ? steps_in(c, 0, r) : steps; }
  i64 places(i64 r) const {
    const i64 all = steps - taps + 1;
    if (!is_ragged(c, 0)) return all;
    Value out = c.graph->values[static_cast<std::size_t>(c.node->in[0])];
    out.shrink += taps - 1;
    return std::min<i64>(valid_steps(out, c.lengths[0].as<i32>()[r]), all);
  }
  i64 wide() const { return padded(filters); }
  i64 map_size() const { return steps * wide(); }
  i64 pack_size() const { return wide() * window(); }
  i64 part_size() const {
    return map_size() + padded(filters * window()) + 2 * padded(filters);
  }
  float* pack() const { return reinterpret_cast<float*>(c.scratch.data); }   // of all shards
  float* part(i64 shard) const { return pack() + pack_size() + shard * part_size(); }
};

TextConv text_conv(const Call& c, const Conv1d& op) {
  return {c, op.activation, c.in[0].shape[1], c.in[0].shape[2], op.width, op.filters};
}

// A row shorter than the window: its one place sees zeros past the end.
void short_row(const TextConv& t, i64 r, float* map) {
  const i64 k = t.end(r) * t.width;
  if (k == 0) return (void)std::fill_n(map, t.filters, 0.0f);
  gemm({.b_t = true, .m = 1, .n = t.filters, .k = k, .a = real(t.c.in[0]) + r * t.steps * t.width,
        .lda = k, .b = real(t.c.param[0]), .ldb = t.window(), .c = map, .ldc = t.filters});
}

// `map`: what short_row() or the product gave; then room for wide() maxima and their places.
void pool_places(Context& x, const TextConv& t, i64 r, float* map) {
  float* out = real(t.c.out[0]) + r * t.filters;
  i32* saved = reinterpret_cast<i32*>(t.c.saved.data) + r * t.filters;
  const i64 places = t.places(r);
  if (places <= 0) {
    std::fill_n(out, t.filters, 0.0f);
    std::fill_n(saved, t.filters, -1);
    return;
  }
  float* best = map + t.map_size();
  i32* place = reinterpret_cast<i32*>(best + t.wide());
  x.kernels.max_rows(map, places, t.wide(), best, place);
  std::copy_n(best, t.filters, out);
  std::copy_n(place, t.filters, saved);
  x.kernels.add_bias(out, real(t.c.param[1]), 1, t.filters);
  activate(x, t.activation, out, t.filters);
}

void row_backward(Context& x, const TextConv& t, i64 r, float* part) {
  float* d_weight = part + t.map_size();
  float* d_bias = d_weight + padded(t.filters * t.window());
  float* d = d_bias + padded(t.filters);
  const i64 at = r * t.filters;
  activate_back(x, t.activation, d, real(t.c.d_out[0]) + at, real(t.c.out[0]) + at, t.filters);
  const i32* saved = reinterpret_cast<const i32*>(t.c.saved.data) + at;
  const i64 end = t.end(r), row = r * t.steps * t.width;
  const float* in = real(t.c.in[0]) + row;
  float* d_in = t.c.d_in[0].data ? real(t.c.d_in[0]) + row : nullptr;
  for (i64 f = 0; f < t.filters; ++f) {
    if (saved[f] < 0 || d[f] == 0) continue;
    const i64 n = std::min(t.taps, end - saved[f]) * t.width, from = saved[f] * t.width;
    d_bias[f] += d[f];
    x.kernels.axpy(d_weight + f * t.window(), d[f], in + from, n);
    if (d_in) x.kernels.axpy(d_in + from, d[f], real(t.c.param[0]) + f * t.window(), n);
  }
}

}  // namespace

Needs text_needs(const Call& c, const Conv1d& op, i64 threads) {
  const TextConv t = text_conv(c, op);
  Needs needs;
  needs.scratch = 4 * (t.pack_size() + threads * t.part_size());
  needs.saved = 4 * c.in[0].shape[0] * t.filters;
  return needs;
}

void text_forward(Context& x, const Call& c, const Conv1d& op) {
  const TextConv t = text_conv(c, op);
  const float* weight = x.packs ? x.packs->of(real(c.param[0]), t.filters, t.window()) : t.pack();
  if (!x.packs) pack_transposed(real(c.param[0]), t.filters, t.window(), t.pack());
  sharded(x, valid_rows(c), [&](int shard, i64 first, i64 end) {
    float* map = t.part(shard);
    for (i64 r = first; r < end; ++r) {
      if (t.end(r) < t.taps)
        short_row(t, r, map);
      else
        x.kernels.gemm({t.places(r), t.wide(), t.window(), real(c.in[0]) + r * t.steps * t.width,
                        t.width, weight, nullptr, false, map, t.wide()});
      pool_places(x, t, r, map);
    }
  });
  zero_padding(c.out[0], valid_rows(c));
}

void text_backward(Context& x, const Call& c, const Conv1d& op) {
  const TextConv t = text_conv(c, op);
  const bool fresh = c.d_in[0].data && !c.accumulate[0];
  const i64 weights = padded(t.filters * t.window()), row = t.steps * t.width;
  for (i64 shard = 0; shard < x.threads; ++shard)
    std::fill_n(t.part(shard) + t.map_size(), weights + padded(t.filters), 0.0f);
  sharded(x, valid_rows(c), [&](int shard, i64 first, i64 end) {
    if (fresh) std::fill_n(real(c.d_in[0]) + first * row, (end - first) * row, 0.0f);
    for (i64 r = first; r < end; ++r) row_backward(x, t, r, t.part(shard));
  });
  if (fresh) zero_padding(c.d_in[0], valid_rows(c));
  const float* parts = t.part(0) + t.map_size();
  reduce_parts(x, real(c.d_param[0]), t.filters * t.window(), parts, t.part_size());
  reduce_parts(x, real(c.d_param[1]), t.filters, parts + weights, t.part_size());
}

}  // namespace cohort::cpu
