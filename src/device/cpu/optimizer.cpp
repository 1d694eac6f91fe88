#include "device/cpu/cpu_impl.h"

namespace cohort::cpu {
namespace {

// Decay of adam is L2 (torch.optim.Adam), of adamw decoupled
// (Loshchilov & Hutter 2019).
struct Rule {
  OptimizerKind kind;
  double rate, momentum, beta1, beta2, epsilon, correction1, correction2;
};

template <class Update>
Rule rule_of(const Update& u) {
  const double step = static_cast<double>(u.decision->updates);
  return {u.kind,    u.scalars->learning_rate,      u.momentum,
          u.beta1,   u.beta2,                       u.epsilon,
          1 - std::pow(u.beta1, step), 1 - std::pow(u.beta2, step)};
}

void run_running(const DenseUpdate& u, const OptimizerSegment& s) {
  const double rows = u.decision->running_rows;
  if (rows <= 0) return;
  for (i64 k = s.offset; k < s.offset + s.count; ++k) {
    float& p = real(u.params)[k];
    p = static_cast<float>((1 - s.decay) * p + s.decay * real(u.grads)[k] / rows);
  }
}

void sgd(const DenseUpdate& u, i64 first, i64 end, float decay) {
  float* p = real(u.params);
  float* v = real(u.slot0);
  const float* g = real(u.grads);
  const float scale = static_cast<float>(u.decision->factor);
  const float momentum = static_cast<float>(u.momentum);
  const float rate = static_cast<float>(u.scalars->learning_rate);
  for (i64 k = first; k < end; ++k) {
    const float change = scale * g[k] + decay * p[k] + (v ? momentum * v[k] : 0);
    if (v) v[k] = change;
    p[k] -= rate * change;
  }
}

void move_average(const DenseUpdate& u, i64 first, i64 end) {
  if (!u.average.data) return;
  float* a = real(u.average);
  const float* p = real(u.params);
  const float take = static_cast<float>(1 - average_decay(u.ema, u.decision->updates));
  for (i64 k = first; k < end; ++k) a[k] += take * (p[k] - a[k]);
}

AdamRule adam_rule(const Rule& rule, double scale, double decay) {
  const bool decoupled = rule.kind == OptimizerKind::adamw;
  AdamRule out{};
  out.rate = static_cast<float>(rule.rate / rule.correction1);
  out.beta1 = static_cast<float>(rule.beta1);
  out.beta2 = static_cast<float>(rule.beta2);
  out.epsilon = static_cast<float>(rule.epsilon);
  out.inverse_root_correction2 = static_cast<float>(1 / std::sqrt(rule.correction2));
  out.scale = static_cast<float>(scale);
  out.decay = static_cast<float>(decoupled ? 0 : decay);
  out.shrink = static_cast<float>(decoupled ? 1 - rule.rate * decay : 1);
  return out;
}

}  // namespace

void run_update(Context& x, const DenseUpdate& u) {
  if (!u.decision->apply) return;
  const Rule rule = rule_of(u);
  const double scale = u.decision->factor;
  for (const OptimizerSegment& s : u.segments) {
    if (s.running) {
      run_running(u, s);
      continue;
    }
    const AdamRule adam = adam_rule(rule, scale, s.decay);
    sharded(x, s.count, [&](int, i64 first, i64 end) {
      const i64 at = s.offset + first;
      if (u.kind == OptimizerKind::sgd)
        sgd(u, at, s.offset + end, static_cast<float>(s.decay));
      else
        x.kernels.adam(real(u.params) + at, real(u.grads) + at, real(u.slot0) + at,
                       real(u.slot1) + at, end - first, adam);
      move_average(u, at, s.offset + end);
    });
  }
}

// torch.optim.SparseAdam adds epsilon before the bias correction of the second moment:
// p -= rate * sqrt(correction2) / correction1 * m / (sqrt(v) + epsilon). sgd has no momentum here.
void run_update(Context& x, const RowUpdate& u) {
  if (!u.decision->apply) return;
  const Rule rule = rule_of(u);
  const double scale = u.decision->factor;
  const i64 dim = u.param.shape[1];
  AdamRule adam = adam_rule(rule, scale, 0);
  adam.rate *= static_cast<float>(std::sqrt(rule.correction2));
  adam.inverse_root_correction2 = adam.shrink = 1;
  sharded(x, *u.active, [&](int, i64 first, i64 end) {
    for (i64 k = first; k < end; ++k) {
      const i64 row = u.rows.as<i32>()[k];
      float* p = real(u.param) + row * dim;
      const float* g = real(u.grad) + k * dim;
      if (u.kind == OptimizerKind::sgd)
        x.kernels.axpy(p, static_cast<float>(-rule.rate * scale), g, dim);
      else
        x.kernels.adam(p, g, real(u.slot0) + row * dim, real(u.slot1) + row * dim, dim, adam);
    }
  });
}

// Blocks of fixed size are summed one by one and then in order: the same for any thread count.
void run_norm(Context& x, const NormCall& call) {
  constexpr i64 block = 1 << 16, batch = 256;
  double total = 0, parts[batch];
  for (const View& range : call.ranges) {
    const i64 n = call.active_rows ? *call.active_rows * range.shape[1] : range.count();
    const i64 blocks = (n + block - 1) / block;
    for (i64 from = 0; from < blocks; from += batch) {
      const i64 here = std::min(batch, blocks - from);
      sharded(x, here, [&](int, i64 first, i64 end) {
        for (i64 k = first; k < end; ++k) {
          const i64 at = (from + k) * block;
          parts[k] = x.kernels.sum_squares(real(range) + at, std::min(block, n - at));
        }
      });
      for (i64 k = 0; k < here; ++k) total += parts[k];
    }
  }
  *call.out.as<double>() = total;
}

}  // namespace cohort::cpu
