#include "average.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

namespace cohort::testing {
namespace {

constexpr i64 batch_rows = 13, steps = 6;
constexpr double ema = 0.4;   // of the config from the fourth step on, the warm-up's before

Values averages_of(const Graph& graph, const Values& tensors) {
  Values averages;
  for (const Param& param : graph.params)
    if (!param.running && !param.sparse)
      averages[param.name] = tensors.at(average_name(param.name));
  return averages;
}

std::vector<double> predict(Device& device, const Graph& graph, ModelState& state,
                            const Batch& batch) {
  PlanConfig config;
  config.rows = config.global_batch = batch_rows;
  Plan plan(device, graph, state, config);
  plan.infer(batch);
  return plan.prediction(batch.valid);
}

// One model's steps, and what its average should be.
class Averaged {
 public:
  Averaged(const Family& family, const Graph& graph, Device& device)
      : graph_(graph), with_(device, graph, config_of(family, ema)),
        without_(device, graph, config_of(family, 0)),
        expected_(averages_of(graph, with_.tensors())) {
    for (Replica* replica : {&with_, &without_}) {   // float16: no step in search of a scale
      Decision decision = replica->state().first_decision();
      decision.loss_scale = std::min(decision.loss_scale, 16.0);
      replica->state().write_decision(decision);
    }
  }

  Replica& with() { return with_; }
  const Values& expected() const { return expected_; }
  void step(i64 at, const Batch& batch, const std::vector<SparseRows>& sparse) {
    for (Replica* replica : {&with_, &without_})
      ASSERT_FALSE(replica->plan().step(batch, sparse, {}, nullptr, 0.01).skipped);
    const Values weights = without_.tensors(), tensors = with_.tensors();
    for (const auto& [name, values] : weights) EXPECT_EQ(tensors.at(name), values) << name;
    const double t = static_cast<double>(at + 1), keep = std::min(ema, (1 + t) / (10 + t));
    for (auto& [name, average] : expected_)
      for (std::size_t k = 0; k < average.size(); ++k)
        average[k] = keep * average[k] + (1 - keep) * weights.at(name)[k];
  }
  void skip(const Batch& batch, const std::vector<SparseRows>& sparse) {
    const Values sound = with_.tensors();
    Values spoiled = sound;
    std::string name;
    for (const Param& param : graph_.params)
      if (!param.running) name = param.name;
    spoiled.at(name).back() = std::numeric_limits<double>::quiet_NaN();
    with_.restore(spoiled);
    EXPECT_TRUE(with_.plan().step(batch, sparse, {}, nullptr, 0.01).skipped);
    EXPECT_EQ(averages_of(graph_, with_.tensors()), averages_of(graph_, sound));
    with_.restore(sound);
  }

 private:
  static PlanConfig config_of(const Family& family, double decay) {
    PlanConfig config = one_rank(family, batch_rows);
    config.optimizer.ema = decay;
    return config;
  }
  const Graph& graph_;
  Replica with_, without_;
  Values expected_;
};

}  // namespace

void check_average(const Family& family, Device& device, double near) {
  Graph graph = graph_from(family.model, family.fields, true);
  graph.params.front().frozen = true;
  Averaged model(family, graph, device);
  const auto solo = make_solo();
  Batch batch;
  for (i64 step = 0; step < steps; ++step) {
    batch = rows_of(graph, family.fields, batch_rows, {step, {0, batch_rows}, batch_rows});
    const std::vector<SparseRows> sparse = sparse_rows(graph, batch, *solo);
    if (step == 2) model.skip(batch, sparse);
    model.step(step, batch, sparse);
  }
  Values tensors = model.with().tensors();
  const Values averages = averages_of(graph, tensors);
  EXPECT_EQ(difference(averages, model.expected(), near, 1), "");
  for (const auto& [name, average] : averages) {
    const bool frozen = name == graph.params.front().name;
    EXPECT_EQ(average == tensors.at(name), frozen) << name;
  }

  ModelState averaged = model.with().state().averaged();
  const std::vector<double> raw = predict(device, graph, model.with().state(), batch);
  const std::vector<double> mean = predict(device, graph, averaged, batch);
  EXPECT_NE(mean, raw);
  for (const auto& [name, average] : averages) tensors.at(name) = average;
  model.with().restore(tensors);
  EXPECT_EQ(predict(device, graph, model.with().state(), batch), mean);
}

}  // namespace cohort::testing
