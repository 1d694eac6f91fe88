#include "serve/engine.h"

#include <algorithm>
#include <cstring>

#include "base/env.h"
#include "base/error.h"
#include "serve/index.h"

namespace cohort {
namespace {

std::vector<i64> capacities_up_to(i64 rows) {
  std::vector<i64> all;
  for (i64 capacity = 1; capacity < rows; capacity *= capacity == 1 ? 8 : 4)
    all.push_back(capacity);
  all.push_back(rows);
  return all;
}

// The batch that holds rows [first, first + rows) of the columns.
void take(Batch& batch, const std::vector<Input>& inputs, const std::vector<BatchColumn>& columns,
          i64 first) {
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    const i64 bytes = count(inputs[k].shape) * size_of(inputs[k].dtype);
    const auto from = columns[k].data.begin() + first * bytes;
    batch.columns[k].data.assign(from, from + batch.valid * bytes);
    batch.columns[k].data.resize(at(batch.capacity * bytes));
    if (!inputs[k].ragged) continue;
    const auto lengths = columns[k].lengths.begin() + first;
    batch.columns[k].lengths.assign(lengths, lengths + batch.valid);
    batch.columns[k].lengths.resize(at(batch.capacity));
  }
}

}  // namespace

std::shared_ptr<Device> make_serving_device(int threads) {
  CpuOptions options;
  options.threads = threads > 0 ? threads : usable_cores();
  options.frozen = true;
  return make_cpu_device(options);
}

EngineWeights::EngineWeights(std::shared_ptr<Device> on, const Graph& of,
                             const std::vector<NamedView>& weights)
    : device(std::move(on)),
      graph(of),
      state(*device, graph, std::vector<i64>(graph.params.size(), 0), false) {
  for (const NamedView& to : state.tensors()) {
    const auto from = std::find_if(weights.begin(), weights.end(),
                                   [&](const NamedView& w) { return w.name == to.name; });
    COHORT_CHECK(from != weights.end(), "no weights for parameter " + to.name);
    COHORT_CHECK(from->view.dtype == to.view.dtype && from->view.shape == to.view.shape,
                 "weights of another type or shape for parameter " + to.name);
    device->copy_in(to.view.data, from->view.data, to.view.bytes());
  }
}

Engine::Engine(std::shared_ptr<EngineWeights> weights, i64 rows)
    : weights_(std::move(weights)),
      capacities_(capacities_up_to(rows)),
      plans_(capacities_.size()) {}

std::size_t Engine::plan_of(i64 valid) const {
  COHORT_CHECK(valid <= rows(), "more rows than the engine was made for");
  std::size_t k = 0;
  while (capacities_[k] < valid) ++k;
  return k;
}

std::vector<double> Engine::predict(const Batch& batch) {
  const std::size_t k = plan_of(batch.valid);
  if (!plans_[k]) {
    PlanConfig config;
    config.rows = config.global_batch = capacities_[k];
    plans_[k] = std::make_unique<Plan>(*weights_->device, weights_->graph,
                                       weights_->state, config);
  }
  plans_[k]->infer(batch);
  return plans_[k]->prediction(batch.valid);
}

std::vector<float> predict_all(Engine& engine, const std::vector<Input>& inputs,
                               const std::vector<BatchColumn>& columns, i64 rows) {
  Batch batch;
  batch.capacity = engine.rows();
  batch.columns.resize(inputs.size());
  batch.row_ids.assign(at(batch.capacity), -1);
  batch.positions.assign(at(batch.capacity), 0);
  batch.blocks.assign(at(batch.capacity), 0);
  std::vector<float> all;
  for (i64 first = 0; first < rows; first += batch.capacity) {
    batch.valid = std::min(batch.capacity, rows - first);
    take(batch, inputs, columns, first);
    for (const double x : engine.predict(batch)) all.push_back(static_cast<float>(x));
  }
  return all;
}

}  // namespace cohort
