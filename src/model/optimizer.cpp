#include "model/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace cohort {

void bind(Binder& b, OptimizerConfig& c) {
  b.key("name", c.name, one_of({"sgd", "adam", "adamw"}), "The update rule.");
  b.key("learning_rate", c.learning_rate, above(0), "Rate after the warm-up.");
  b.key("momentum", c.momentum, below_one(), "Momentum of sgd.");
  b.key("beta1", c.beta1, below_one(), "Decay of Adam's mean of gradients.");
  b.key("beta2", c.beta2, below_one(), "Decay of Adam's mean of squared gradients.");
  b.key("epsilon", c.epsilon, above(0), "Added to Adam's denominator.");
  b.key("weight_decay", c.weight_decay, at_least(0),
        "Decay of weights, not of biases and batch norm; an error with sparse embeddings.");
  b.key("ema", c.ema, below_one(),
        "Decay of a moving average of the weights, which evaluation, predict and export take for "
        "them; smaller in the first steps; 0: none; an error with sparse embeddings.");
  b.key("clip_norm", c.clip_norm, at_least(0), "Largest global gradient norm; 0: no clipping.");
  b.key("warmup_steps", c.warmup_steps, at_least(0), "Steps of linear warm-up.");
  b.key("schedule", c.schedule, one_of({"constant", "cosine"}), "Shape after the warm-up.");
  b.key("final_learning_rate", c.final_learning_rate, between(0, 1),
        "Cosine: the last step's rate as a fraction of learning_rate.");
}

double learning_rate_at(const OptimizerConfig& config, i64 step, i64 total_steps) {
  const double peak = config.learning_rate;
  if (step < config.warmup_steps)
    return peak * static_cast<double>(step + 1) / static_cast<double>(config.warmup_steps);
  if (config.schedule != "cosine") return peak;
  const i64 span = total_steps - 1 - config.warmup_steps;
  const double done =
      span <= 0 ? 1.0
                : std::min(1.0, static_cast<double>(step - config.warmup_steps) /
                                    static_cast<double>(span));
  const double low = config.final_learning_rate * peak;
  return low + 0.5 * (peak - low) * (1 + std::cos(std::numbers::pi * done));
}

void check_optimizer(const OptimizerConfig& config, const Graph& graph) {
  if (config.weight_decay == 0 && config.ema == 0) return;
  for (const Node& node : graph.nodes) {
    for (i64 p : node.params) {
      const Param& param = graph.params[static_cast<std::size_t>(p)];
      if (!param.sparse || param.frozen) continue;
      if (config.ema != 0)
        fail(Exit::usage, "{}: layer '{}' is a sparse embedding: expected optimizer.ema 0, got {}; "
             "set sparse: false on the layer or remove the average", node.place, node.name,
             config.ema);
      fail(Exit::usage, "{}: layer '{}' is a sparse embedding: expected optimizer.weight_decay 0, "
           "got {}; set sparse: false on the layer or remove the decay", node.place, node.name,
           config.weight_decay);
    }
  }
}

}  // namespace cohort
