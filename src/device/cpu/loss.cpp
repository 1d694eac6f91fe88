#include "device/cpu/cpu_impl.h"

namespace cohort::cpu {
namespace {

double weight_of(const Call& c, i64 row) { return c.weight.data ? real(c.weight)[row] : 1; }

// Calls use(row, first element, elements) for every judged place of rows [begin, end): a row, or a
// valid step of it.
template <class Use>
void each_place(const Call& c, i64 begin, i64 end, Use use) {
  const i64 n = row_size(c.in[0]);
  const bool sequence = !c.lengths.empty() && c.lengths[0].data;
  const i64 width = sequence ? n / c.in[0].shape[1] : n;
  for (i64 r = begin; r < end; ++r) {
    i64 places = n / std::max<i64>(width, 1);
    if (sequence) places = steps_in(c, 0, r);
    if (sequence && c.lengths.size() > 1 && c.lengths[1].data)
      places = std::min(places, steps_in(c, 1, r));
    for (i64 t = 0; t < places; ++t) use(r, r * n + t * width, width);
  }
}

double log_sum_exp(const float* x, i64 n) {
  double top = x[0];
  for (i64 k = 1; k < n; ++k) top = std::max<double>(top, x[k]);
  double sum = 0;
  for (i64 k = 0; k < n; ++k) sum += std::exp(x[k] - top);
  return top + std::log(sum);
}

void cross_entropy(const Call& c, i64 begin, i64 end, double* out, float* gradient) {
  const i64 classes = last(c.in[0].shape);
  const float* logits = real(c.in[0]);
  const i32* targets = c.in[1].as<i32>();
  each_place(c, begin, end, [&](i64 row, i64 first, i64 width) {
    for (i64 at = first; at < first + width; at += classes) {
      const i32 target = targets[at / classes];
      if (target < 0) continue;
      const double w = weight_of(c, row), total = log_sum_exp(logits + at, classes);
      if (out) out[0] += w * (total - logits[at + target]), out[1] += w;
      for (i64 k = 0; gradient && k < classes; ++k)
        gradient[at + k] +=
            static_cast<float>(w * (std::exp(logits[at + k] - total) - (k == target ? 1 : 0)));
    }
  });
}

void squares_or_bce(const Call& c, LossKind kind, i64 begin, i64 end, double* out,
                    float* gradient) {
  const float* p = real(c.in[0]);
  const float* t = real(c.in[1]);
  each_place(c, begin, end, [&](i64 row, i64 first, i64 width) {
    const double w = weight_of(c, row), share = 1.0 / static_cast<double>(width);
    for (i64 k = first; k < first + width; ++k) {
      const double x = p[k], y = t[k];
      const double loss = kind == LossKind::mse
                              ? (x - y) * (x - y)
                              : std::max(x, 0.0) - x * y + std::log1p(std::exp(-std::abs(x)));
      const double slope_here =
          kind == LossKind::mse ? 2 * (x - y) : 1 / (1 + std::exp(-x)) - y;
      if (out) out[0] += w * loss * share;
      if (gradient) gradient[k] += static_cast<float>(w * slope_here * share);
    }
    if (out) out[1] += w;
  });
}

void judge(const Call& c, const Loss& op, i64 begin, i64 end, double* out, float* gradient) {
  if (op.kind == LossKind::cross_entropy) return cross_entropy(c, begin, end, out, gradient);
  squares_or_bce(c, op.kind, begin, end, out, gradient);
}

}  // namespace

Needs needs(const Call&, const Loss&, i64 threads) {
  Needs needs;
  needs.scratch = 8 * padded(2 * threads);   // (loss, weight) of each shard
  return needs;
}

void forward(Context& x, const Call& c, const Loss& op) {
  double* parts = reinterpret_cast<double*>(c.scratch.data);
  std::fill_n(parts, 2 * x.threads, 0.0);
  sharded(x, valid_rows(c), [&](int shard, i64 begin, i64 end) {
    judge(c, op, begin, end, parts + 2 * shard, nullptr);
  });
  for (i64 k = 0; k < 2 * x.threads; ++k) c.out[0].as<double>()[k % 2] += parts[k];
}

void backward(Context& x, const Call& c, const Loss& op) {
  if (!begin_gradient(c, 0)) return;
  sharded(x, valid_rows(c), [&](int, i64 begin, i64 end) {
    judge(c, op, begin, end, nullptr, real(c.d_in[0]));
  });
}

}  // namespace cohort::cpu
