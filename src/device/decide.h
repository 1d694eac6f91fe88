// What becomes of a step once its sums are reduced: one definition for every device. Plain types:
// it is compiled for graphics processors too.
#pragma once
#include <cmath>

#include "base/types.h"

namespace cohort {

// In device memory, beside the weights.
struct Decision {
  i64 updates = 0;            // applied so far, this step included: Adam's step
  bool apply = false;         // the optimizer runs
  bool skipped = false;       // loss or gradients not finite: nothing is changed
  double factor = 0;          // from a gradient sum to what the optimizer takes: clip / weight
  double grad_norm = 0;       // of the mean gradient, before clipping
  double running_rows = 0;    // valid rows of the global batch
  double loss_scale = 1;      // float16: what losses' gradients are multiplied by
  i64 good_steps = 0;         // since loss_scale last changed
};

// word, f64, reduced over ranks: sum of weight * loss, sum of weight, valid rows, requests.
// squares, f64 [norms]: parts of the squared norm of the gradient sums.
struct DecideCall {
  const double* word = nullptr;
  const double* squares = nullptr;
  i64 norms = 0;
  double clip_norm = 0;       // 0: no clipping
  bool dynamic_scale = false; // halve loss_scale when gradients overflow, double it after 2000 steps
  Decision* decision = nullptr;
};

// Decay of the average of the weights at the step that is the `updates`-th applied one. It begins
// small, so that the initial weights are soon forgotten: min(ema, (1 + t) / (10 + t)), as
// tf.train.ExponentialMovingAverage has it where num_updates is given.
COHORT_EVERYWHERE inline double average_decay(double ema, i64 updates) {
  const double t = static_cast<double>(updates), early = (1 + t) / (10 + t);
  return early < ema ? early : ema;
}

COHORT_EVERYWHERE inline void decide(const DecideCall& c) {
  constexpr i64 patience = 2000;   // Micikevicius et al. 2018, section 3.2
  Decision& d = *c.decision;
  const double weight = c.word[1];
  const double inverse = weight > 0 ? 1 / weight : 0;
  double squares = 0;
  for (i64 k = 0; k < c.norms; ++k) squares += c.squares[k];
  d.grad_norm = std::sqrt(squares) * inverse / d.loss_scale;
  d.running_rows = c.word[2];
  const bool loss_finite = std::isfinite(c.word[0] * inverse);
  d.skipped = !loss_finite || !std::isfinite(d.grad_norm);
  d.apply = !d.skipped && weight > 0;
  d.factor = inverse / d.loss_scale;
  if (c.clip_norm > 0 && d.grad_norm > c.clip_norm) d.factor *= c.clip_norm / d.grad_norm;
  if (d.apply) ++d.updates;
  if (!c.dynamic_scale || !loss_finite) return;
  d.good_steps = d.skipped ? 0 : d.good_steps + 1;
  if (d.skipped) d.loss_scale = d.loss_scale > 2 ? d.loss_scale / 2 : 1;
  if (d.good_steps < patience) return;
  d.good_steps = 0;
  d.loss_scale *= 2;
}

}  // namespace cohort
