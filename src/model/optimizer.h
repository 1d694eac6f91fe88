// How weights move: the optimizer's numbers and the learning rate over the steps of a run.
#pragma once
#include <string>

#include "base/config.h"
#include "base/types.h"
#include "model/graph.h"

namespace cohort {

struct OptimizerConfig {
  std::string name = "adam";        // sgd, adam, adamw
  double learning_rate = 1e-3;
  double momentum = 0;              // sgd
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;   // adam, adamw
  double weight_decay = 0;          // not on biases and batch norm
  double ema = 0;                   // decay of the average of the weights; 0: none
  double clip_norm = 0;             // global gradient norm; 0: no clipping
  i64 warmup_steps = 0;
  std::string schedule = "constant";   // constant, cosine: the shape after the warm-up
  double final_learning_rate = 0;      // cosine: fraction of learning_rate at the last step
};
void bind(Binder& b, OptimizerConfig& c);

// The rate of step `step` (counted from 0) of `total_steps`. Warm-up is linear:
// lr * (step + 1) / warmup_steps. Cosine (Loshchilov & Hutter 2017, no restarts): from lr right
// after the warm-up to final_learning_rate * lr at step total_steps - 1.
double learning_rate_at(const OptimizerConfig& config, i64 step, i64 total_steps);

// Exit::usage where the rule cannot train this graph: weight decay or an average with a row-sparse
// embedding (idle rows are never touched, so they would neither decay nor be averaged).
void check_optimizer(const OptimizerConfig& config, const Graph& graph);

}  // namespace cohort
