#include "plan/plan.h"

#include <algorithm>
#include <cmath>
#include <variant>

#include "base/error.h"
#include "base/text.h"
#include "plan/memory.h"
#include "plan/plan_impl.h"

namespace cohort {

std::vector<i64> sparse_inputs(const Graph& graph) {
  std::vector<i64> columns;
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    for (i64 p : node->params) {
      if (!graph.params[static_cast<std::size_t>(p)].sparse) continue;
      const i64 ids = node->in.at(0);
      for (std::size_t k = 0; k < graph.inputs.size(); ++k)
        if (graph.inputs[k].value == ids) columns.push_back(static_cast<i64>(k));
    }
  }
  return columns;
}

std::vector<i64> row_capacities(const Graph& graph, i64 global_batch) {
  std::vector<i64> capacities(graph.params.size(), 0);
  for (const Node& node : graph.nodes) {
    for (i64 p : node.params) {
      const Param& param = graph.params[static_cast<std::size_t>(p)];
      if (!param.sparse) continue;
      const i64 ids = count(graph.values[static_cast<std::size_t>(node.in.at(0))].shape);
      capacities[static_cast<std::size_t>(p)] = std::min(param.shape[0], global_batch * ids);
    }
  }
  return capacities;
}

Plan::Plan(Device& device, const Graph& graph, ModelState& state, const PlanConfig& config)
    : impl_(std::make_unique<Impl>(device, graph, state, config)) {}

Plan::~Plan() = default;

void Plan::begin(const Batch& batch, const std::vector<SparseRows>& sparse,
                 const std::vector<double>& requests, Reducer* reducer, double learning_rate) {
  impl_->begin({&batch, &sparse, &requests, learning_rate, true}, reducer);
}

StepResult Plan::finish(Reducer* reducer) { return impl_->finish(reducer); }

i64 Plan::ahead() const { return impl_->slots.size() > 1 ? 1 : 0; }

StepResult Plan::step(const Batch& batch, const std::vector<SparseRows>& sparse,
                      const std::vector<double>& requests, Reducer* reducer,
                      double learning_rate) {
  begin(batch, sparse, requests, reducer, learning_rate);
  return finish(reducer);
}

StepResult Plan::gradients(const Batch& batch, const std::vector<SparseRows>& sparse,
                           Reducer* reducer) {
  impl_->begin({&batch, &sparse, nullptr, 0, false}, reducer);
  return impl_->finish(reducer);
}

StepResult Plan::infer(const Batch& batch) { return impl_->infer(batch); }

std::vector<double> Plan::prediction(i64 rows) const {
  return impl_->read_value(impl_->graph.prediction, rows);
}

std::vector<double> Plan::target(i64 rows) const {
  return impl_->read_value(impl_->graph.target, rows);
}

std::string Plan::recordings() const {
  i64 kernels = 0, bytes = 0;
  for (const auto& [key, kernel] : impl_->recorded) {
    kernels = std::max(kernels, kernel->launches().kernels);
    bytes += kernel->launches().bytes;
  }
  if (impl_->recorded.empty()) return "";
  return fmt::format("{} recordings of passes, at most {} kernels each, {}",
                     impl_->recorded.size(), kernels, human_bytes(bytes));
}

Plan::Memory Plan::memory() const { return impl_->memory(); }

std::vector<StepCost> Plan::costs() const { return impl_->costs(); }

Launches Plan::launches() const { return impl_->launches(); }

std::string Plan::print() const {
  const auto cost_text = [](const StepCost& cost) {
    const std::string flops = cost.flops > 0 ? human_count(cost.flops) + "FLOP" : "";
    return fmt::format("{:>14} {:>11}", flops, human_bytes(static_cast<i64>(cost.read + cost.written)));
  };
  const std::vector<StepCost> costs = this->costs();
  std::string text;
  for (std::size_t k = 0; k < std::max(costs.size(), impl_->lines.size()); ++k) {
    const bool node = k < impl_->lines.size();
    const std::string line = node ? impl_->lines[k] : fmt::format("{:4} {}", k, costs[k].what);
    text += fmt::format("{:<62}{}\n", line, k < costs.size() ? cost_text(costs[k]) : "");
  }
  if (!costs.empty()) text += fmt::format("{:<62}{}\n", "at least", cost_text(total_of(costs)));
  return text + to_text(memory()) + "\n";
}

std::string to_text(const Plan::Memory& m) {
  std::string text =
      fmt::format("memory: params {}, gradients {}, optimizer {}, activations {}, staging {}",
                  human_bytes(m.params), human_bytes(m.grads), human_bytes(m.slots),
                  human_bytes(m.activations), human_bytes(m.staging));
  if (m.snapshot > 0)
    text += fmt::format(", checkpoint snapshot {} on the host", human_bytes(m.snapshot));
  return text;
}

}  // namespace cohort
