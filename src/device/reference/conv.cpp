// Convolutions. A fused pool is computed through the unpooled result.
#include <vector>

#include "device/reference/reference_impl.h"

namespace cohort::reference {
namespace {

// One convolution as loops over (row, output place, filter, tap); taps outside the input, or at an
// invalid step, are zeros. conv1d is the case of one column.
struct Window {
  const Call& c;
  i64 height, width, channels;        // input
  i64 out_height, out_width, filters;
  i64 kernel_h, kernel_w, stride, padding;
  bool sequence;
  i64 groups = 1;
  bool bias = true;

  i64 places() const { return out_height * out_width; }
  // Valid output places of row r.
  i64 valid_places(i64 r) const {
    if (!sequence) return places();
    if (c.lengths.empty() || !c.lengths[0].data) return places();
    const Value& in = c.graph->values[static_cast<std::size_t>(c.node->in[0])];
    Value out = in;
    out.shrink += kernel_h - 1;
    return std::min(valid_steps(out, c.lengths[0].as<i32>()[r]), places());
  }
  i64 valid_height(i64 r) const { return sequence ? steps_in(c, 0, r) : height; }

  // use(weight offset, input offset) for every tap of place p that lies inside the input.
  template <class Use>
  void taps(i64 r, i64 p, i64 filter, Use use) const {
    for (i64 a = 0; a < kernel_h; ++a) {
      for (i64 b = 0; b < kernel_w; ++b) {
        const i64 y = p / out_width * stride + a - padding;
        const i64 x = p % out_width * stride + b - (sequence ? 0 : padding);
        if (y < 0 || y >= valid_height(r) || x < 0 || x >= width) continue;
        const i64 seen = channels / groups, group = filter / (filters / groups);
        const i64 from = ((r * height + y) * width + x) * channels + group * seen;
        const i64 tap = ((filter * kernel_h + a) * kernel_w + b) * seen;
        for (i64 k = 0; k < seen; ++k) use(tap + k, from + k);
      }
    }
  }
  double result(i64 r, i64 p, i64 filter, Activation activation) const {
    double sum = bias ? real(c.param[1])[filter] : 0;
    taps(r, p, filter, [&](i64 w, i64 x) { sum += real(c.param[0])[w] * real(c.in[0])[x]; });
    return activate(activation, sum);
  }
  void send_back(i64 r, i64 p, i64 filter, double g) const {
    if (bias) real(c.d_param[1])[filter] += g;
    taps(r, p, filter, [&](i64 w, i64 x) {
      real(c.d_param[0])[w] += g * real(c.in[0])[x];
      if (c.d_in[0].data) real(c.d_in[0])[x] += g * real(c.param[0])[w];
    });
  }
};

Window window_of(const Call& c, const Conv1d& op) {
  const Shape& in = c.in[0].shape;
  return {c, in[1], 1, in[2], in[1] - op.width + 1, 1, op.filters, op.width, 1, 1, 0, true};
}

Window window_of(const Call& c, const Conv2d& op) {
  const Shape& in = c.in[0].shape;
  const auto extent = [&](i64 n) { return (n + 2 * op.padding - op.kernel) / op.stride + 1; };
  return {c, in[1], in[2], in[3], extent(in[1]), extent(in[2]), op.filters,
          op.kernel, op.kernel, op.stride, op.padding, false, op.groups, op.bias};
}

// The first place of the largest result, among `count` places given by place(k).
template <class PlaceOf>
i64 best_place(const std::vector<double>& map, i64 count, PlaceOf place) {
  i64 best = place(0);
  for (i64 k = 1; k < count; ++k)
    if (map[static_cast<std::size_t>(place(k))] > map[static_cast<std::size_t>(best)])
      best = place(k);
  return best;
}

// All results of one row and filter.
std::vector<double> result_map(const Window& w, i64 r, i64 filter, Activation activation) {
  std::vector<double> map(static_cast<std::size_t>(w.places()), 0.0);
  for (i64 p = 0; p < w.valid_places(r); ++p)
    map[static_cast<std::size_t>(p)] = w.result(r, p, filter, activation);
  return map;
}

// use(output place, result place) for each output of a row: where a pooled output came from.
template <class Use>
void each_output(const Window& w, const std::vector<double>& map, i64 r, i64 pool, Use use) {
  if (pool < 0) {   // over time
    if (w.valid_places(r) > 0) use(0, best_place(map, w.valid_places(r), [](i64 k) { return k; }));
    return;
  }
  if (pool == 0) {
    for (i64 p = 0; p < w.valid_places(r); ++p) use(p, p);
    return;
  }
  const i64 columns = w.out_width / pool, rows = w.out_height / pool;
  for (i64 q = 0; q < rows * columns; ++q) {
    const i64 top = q / columns * pool, left = q % columns * pool;
    use(q, best_place(map, pool * pool, [&](i64 k) {
          return (top + k / pool) * w.out_width + left + k % pool;
        }));
  }
}

void convolve(const Window& w, Activation activation, i64 pool) {
  const Call& c = w.c;
  const i64 n = row_size(c.out[0]);
  std::fill_n(real(c.out[0]), c.out[0].count(), 0.0);
  for (i64 r = 0; r < valid_rows(c); ++r) {
    for (i64 filter = 0; filter < w.filters; ++filter) {
      const auto map = result_map(w, r, filter, activation);
      each_output(w, map, r, pool, [&](i64 q, i64 p) {
        real(c.out[0])[r * n + q * w.filters + filter] = map[static_cast<std::size_t>(p)];
      });
    }
  }
}

void convolve_back(const Window& w, Activation activation, i64 pool) {
  const Call& c = w.c;
  const i64 n = row_size(c.out[0]);
  begin_gradient(c, 0);
  for (i64 r = 0; r < valid_rows(c); ++r) {
    for (i64 filter = 0; filter < w.filters; ++filter) {
      const auto map = result_map(w, r, filter, activation);
      each_output(w, map, r, pool, [&](i64 q, i64 p) {
        const double g = real(c.d_out[0])[r * n + q * w.filters + filter];
        w.send_back(r, p, filter, g * slope(activation, map[static_cast<std::size_t>(p)]));
      });
    }
  }
}

}  // namespace

void forward(const Call& c, const Conv1d& op) {
  convolve(window_of(c, op), op.activation, op.max_over_time ? -1 : 0);
}
void backward(const Call& c, const Conv1d& op) {
  convolve_back(window_of(c, op), op.activation, op.max_over_time ? -1 : 0);
}
void forward(const Call& c, const Conv2d& op) {
  convolve(window_of(c, op), op.activation, op.pool);
}
void backward(const Call& c, const Conv2d& op) {
  convolve_back(window_of(c, op), op.activation, op.pool);
}

}  // namespace cohort::reference
