#include "device/reference/reference_impl.h"

namespace cohort::reference {
namespace {

// One element; g is already scaled. Decay of adam is L2 (torch.optim.Adam), of adamw decoupled
// (Loshchilov & Hutter 2019).
struct Rule {
  OptimizerKind kind;
  double rate, momentum, beta1, beta2, epsilon, correction1, correction2;

  // Slots that the kind does not use are null.
  void apply(double& p, double g, double* slot0, double* slot1, double decay) const {
    if (kind == OptimizerKind::adamw)
      p -= rate * decay * p;
    else
      g += decay * p;
    if (kind == OptimizerKind::sgd) {
      if (slot0) g = *slot0 = momentum * *slot0 + g;
      p -= rate * g;
      return;
    }
    *slot0 = beta1 * *slot0 + (1 - beta1) * g;
    *slot1 = beta2 * *slot1 + (1 - beta2) * g * g;
    p -= rate / correction1 * *slot0 / (std::sqrt(*slot1 / correction2) + epsilon);
  }
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
    double& p = real(u.params)[k];
    p = (1 - s.decay) * p + s.decay * real(u.grads)[k] / rows;
  }
}

void run_average(const DenseUpdate& u, const OptimizerSegment& s) {
  if (!u.average.data) return;
  const double take = 1 - average_decay(u.ema, u.decision->updates);
  for (i64 k = s.offset; k < s.offset + s.count; ++k)
    real(u.average)[k] += take * (real(u.params)[k] - real(u.average)[k]);
}

}  // namespace

void run_update(const DenseUpdate& u) {
  if (!u.decision->apply) return;
  const Rule rule = rule_of(u);
  const double scale = u.decision->factor;
  for (const OptimizerSegment& s : u.segments) {
    if (s.running) {
      run_running(u, s);
      continue;
    }
    double* slot0 = real(u.slot0);
    double* slot1 = real(u.slot1);
    for (i64 k = s.offset; k < s.offset + s.count; ++k)
      rule.apply(real(u.params)[k], scale * real(u.grads)[k], slot0 ? slot0 + k : nullptr,
                 slot1 ? slot1 + k : nullptr, s.decay);
    run_average(u, s);
  }
}

// torch.optim.SparseAdam adds epsilon before the bias correction of the second moment:
// p -= rate * sqrt(correction2) / correction1 * m / (sqrt(v) + epsilon). sgd has no momentum here.
void run_update(const RowUpdate& u) {
  if (!u.decision->apply) return;
  const Rule rule = rule_of(u);
  const double scale = u.decision->factor;
  const i64 dim = u.param.shape[1];
  const double rate = rule.rate * std::sqrt(rule.correction2) / rule.correction1;
  for (i64 k = 0; k < *u.active; ++k) {
    const i64 row = u.rows.as<i32>()[k];
    for (i64 d = 0; d < dim; ++d) {
      const double g = scale * real(u.grad)[k * dim + d];
      double& p = real(u.param)[row * dim + d];
      if (u.kind == OptimizerKind::sgd) {
        p -= rule.rate * g;
        continue;
      }
      double& m = real(u.slot0)[row * dim + d];
      double& v = real(u.slot1)[row * dim + d];
      m += (1 - rule.beta1) * (g - m);
      v += (1 - rule.beta2) * (g * g - v);
      p -= rate * m / (std::sqrt(v) + rule.epsilon);
    }
  }
}

void run_norm(const NormCall& call) {
  double sum = 0;
  for (const View& range : call.ranges) {
    i64 n = range.count();
    if (call.active_rows) n = *call.active_rows * range.shape[1];
    for (i64 k = 0; k < n; ++k) sum += real(range)[k] * real(range)[k];
  }
  *call.out.as<double>() = sum;
}

}  // namespace cohort::reference
