// The losses from their definitions, in long double, so that no rearrangement is needed against
// overflow: e^x is finite up to x = 11356.
#include "device/reference/reference_impl.h"

namespace cohort::reference {
namespace {

using Real = long double;

// 1 / p_k of a softmax: p_k = e^z_k / sum_j e^z_j (Goodfellow, Bengio & Courville 2016, equation
// 6.29). The cross-entropy of class k is its logarithm.
Real inverse_probability(const double* z, i64 classes, i64 k) {
  Real sum = 0;
  for (i64 j = 0; j < classes; ++j) sum += std::exp(static_cast<Real>(z[j]) - z[k]);
  return sum;
}

// The logistic function (same book, equation 3.30).
Real logistic(Real x) { return 1 / (1 + std::exp(-x)); }

// One judged place: a row, or a valid step of one.
struct Place {
  const double* prediction;
  const double* target;     // mse, bce
  const i32* target_class;  // cross_entropy
  i64 elements;
};

Real value_of(LossKind kind, const Place& p) {
  Real sum = 0;
  if (kind == LossKind::cross_entropy)
    return std::log(inverse_probability(p.prediction, p.elements, *p.target_class));
  for (i64 k = 0; k < p.elements; ++k) {
    const Real x = p.prediction[k], y = p.target[k];
    // bce: -(y log s(x) + (1 - y) log(1 - s(x))) with 1 - s(x) = s(-x)
    sum += kind == LossKind::mse ? (x - y) * (x - y)
                                 : -y * std::log(logistic(x)) - (1 - y) * std::log(logistic(-x));
  }
  return sum / static_cast<Real>(p.elements);
}

// d value / d prediction[k]
Real slope_of(LossKind kind, const Place& p, i64 k) {
  if (kind == LossKind::cross_entropy) {
    const Real probability = 1 / inverse_probability(p.prediction, p.elements, k);
    return k == *p.target_class ? probability - 1 : probability;
  }
  const Real x = p.prediction[k], y = p.target[k];
  const Real slope =
      kind == LossKind::mse ? 2 * (x - y) : -y * logistic(-x) + (1 - y) * logistic(x);
  return slope / static_cast<Real>(p.elements);
}

i64 judged_steps(const Call& c, i64 r) {
  i64 steps = steps_in(c, 0, r);
  if (c.lengths.size() > 1 && c.lengths[1].data) steps = std::min(steps, steps_in(c, 1, r));
  return steps;
}

// use(place, first element of the prediction, weight) of everything that is judged.
template <class Use>
void each_place(const Call& c, LossKind kind, Use use) {
  const i64 row = row_size(c.in[0]);
  const bool classes = kind == LossKind::cross_entropy;
  const bool ragged = !c.lengths.empty() && c.lengths[0].data;
  const i64 elements = classes ? last(c.in[0].shape) : ragged ? row / c.in[0].shape[1] : row;
  for (i64 r = 0; r < valid_rows(c); ++r) {
    const i64 end = ragged ? judged_steps(c, r) * (row / c.in[0].shape[1]) : row;
    const double weight = c.weight.data ? real(c.weight)[r] : 1;
    for (i64 at = r * row; at < r * row + end; at += elements) {
      Place p{real(c.in[0]) + at, nullptr, nullptr, elements};
      if (classes) p.target_class = c.in[1].as<i32>() + at / elements;
      if (!classes) p.target = real(c.in[1]) + at;
      if (classes && *p.target_class < 0) continue;
      use(p, at, weight);
    }
  }
}

}  // namespace

void forward(const Call& c, const Loss& op) {
  double* out = real(c.out[0]);
  each_place(c, op.kind, [&](const Place& p, i64, double weight) {
    out[0] += static_cast<double>(weight * value_of(op.kind, p));
    out[1] += weight;
  });
}

void backward(const Call& c, const Loss& op) {
  if (!begin_gradient(c, 0)) return;
  each_place(c, op.kind, [&](const Place& p, i64 first, double weight) {
    for (i64 k = 0; k < p.elements; ++k)
      real(c.d_in[0])[first + k] += static_cast<double>(weight * slope_of(op.kind, p, k));
  });
}

}  // namespace cohort::reference
