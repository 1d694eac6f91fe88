// Looks for the first value of a step that is not finite: the step again, kernel by kernel, each
// result read back. Only after a step that was skipped, so it need not be fast.
#include <algorithm>
#include <cmath>
#include <variant>

#include "base/error.h"
#include "plan/plan_impl.h"

namespace cohort {
namespace {

bool all_finite(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
}

// One pass of the step that is done again.
class Replay {
 public:
  Replay(Plan::Impl& plan, const Batch& batch) : plan_(plan), batch_(batch) {}
  NonFinite found;

  void begin_pass(i64 micro) {
    first_row_ = micro * plan_.config.rows;
    rows_ = std::clamp<i64>(batch_.valid - first_row_, 0, plan_.config.rows);
  }
  void look_at_parameters() {
    for (std::size_t p = 0; p < plan_.graph.params.size(); ++p) {
      const View view = plan_.state.weight(static_cast<i64>(p));
      if (!all_finite(read(view))) set(fmt::format("parameter {}", plan_.graph.params[p].name));
    }
  }
  void look_at_value(i64 value, const std::string& name, bool gradient) {
    ++order_;
    const Value& v = plan_.graph.values[static_cast<std::size_t>(value)];
    View view = gradient ? plan_.gradient_view(value) : plan_.value_view(value);
    if (!open() || v.integer || !view.data || rows_ == 0) return;
    view.shape[0] = rows_;
    const std::vector<double> values = read(view);
    std::vector<i64> rows;
    for (i64 r = 0; r < rows_; ++r)
      if (!all_finite(row_of(values, v, r))) rows.push_back(first_row_ + r);
    if (rows.empty()) return;
    set(name);
    found.rows = std::move(rows);
  }
  // What has no rows. `causes`: the values whose rows it is the sum of.
  void look_at_sum(View view, const std::string& name, const std::vector<i64>& causes,
                   bool gradient) {
    ++order_;
    if (!open() || all_finite(read(view))) return;
    set(name);
    for (i64 cause : causes) look_for_largest(cause, gradient);
  }

 private:
  void look_for_largest(i64 cause, bool gradient) {
    const Value& v = plan_.graph.values[static_cast<std::size_t>(cause)];
    View rows = gradient ? plan_.gradient_view(cause) : plan_.value_view(cause);
    if (v.integer || !rows.data || rows_ == 0) return;
    rows.shape[0] = rows_;
    const std::vector<double> values = read(rows);
    for (i64 r = 0; r < rows_; ++r) {
      for (double x : row_of(values, v, r)) {
        if (found.largest_row >= 0 && !(std::abs(x) > found.largest)) continue;
        found.largest = std::abs(x);
        found.largest_row = first_row_ + r;
      }
    }
  }
  bool open() const { return found.order < 0; }
  void set(const std::string& name) {
    if (!open()) return;
    found.order = order_;
    found.tensor = name;
  }
  std::vector<double> read(const View& view) const {
    std::vector<char> raw(static_cast<std::size_t>(view.bytes()));
    plan_.device.copy_out(raw.data(), view.data, view.bytes());
    return to_doubles(view.dtype, raw.data(), view.count());
  }
  // The steps in use of row r.
  std::vector<double> row_of(const std::vector<double>& values, const Value& v, i64 r) const {
    const i64 width = count(v.shape);
    i64 used = width;
    if (v.lengths >= 0 && !v.shape.empty() && v.shape[0] > 0) {
      const auto& lengths = batch_.columns[static_cast<std::size_t>(v.lengths)].lengths;
      const i64 length = lengths[static_cast<std::size_t>(first_row_ + r)];
      used = width / v.shape[0] * std::clamp<i64>(valid_steps(v, length), 0, v.shape[0]);
    }
    const auto at = values.begin() + r * width;
    return {at, at + used};
  }

  Plan::Impl& plan_;
  const Batch& batch_;
  i64 first_row_ = 0, rows_ = 0, order_ = 0;
};

void look_at_forward(const Plan::Impl& plan, const Node& node, Replay& replay) {
  const std::string name = fmt::format("output of {} '{}'", kind_of(node.op), node.name);
  if (std::holds_alternative<Loss>(node.op))
    return replay.look_at_sum(plan.loss, name, node.in, false);
  for (i64 v : node.out) replay.look_at_value(v, name, false);
}

void look_at_backward(const Plan::Impl& plan, const Node& node, Replay& replay) {
  for (i64 v : node.in) {
    if (!plan.map.needs_gradient[static_cast<std::size_t>(v)]) continue;
    replay.look_at_value(v, fmt::format("gradient of '{}' in {} '{}'",
                                        plan.graph.values[static_cast<std::size_t>(v)].name,
                                        kind_of(node.op), node.name), true);
  }
  for (i64 p : node.params) {
    const Param& param = plan.graph.params[static_cast<std::size_t>(p)];
    if (param.running || param.frozen) continue;
    View view = plan.state.grad(p);
    for (const TableState& table : plan.state.tables)
      if (table.param == p) view.shape[0] = table.active;
    replay.look_at_sum(view, fmt::format("gradient of parameter {}", param.name), {node.out.at(0)},
                       true);
  }
}

// The inputs in the order of their kernels.
std::vector<i64> inputs_in_order(const Graph& graph) {
  std::vector<i64> order;
  for (const Node& node : graph.nodes) {
    if (!std::holds_alternative<Ingest>(node.op)) continue;
    for (std::size_t k = 0; k < graph.inputs.size(); ++k)
      if (graph.inputs[k].value == node.out.at(0)) order.push_back(static_cast<i64>(k));
  }
  return order;
}

}  // namespace

NonFinite Plan::Impl::find_nonfinite(const StepArguments& arguments, Reducer* reducer) {
  for (Pending& step : pending) collect(step, reducer);
  Replay replay(*this, *arguments.batch);
  replay.look_at_parameters();
  const std::vector<i64> inputs = inputs_in_order(graph);
  for (i64 micro = 0; micro < config.micro_batches; ++micro) {
    const Slot& slot = slots[static_cast<std::size_t>(next_slot)];
    device.wait(slot, [&] { if (reducer) reducer->poll(); });
    fill(slot.host, arguments, micro);
    device.send(slot);
    start_pass(slot, micro == 0);
    replay.begin_pass(micro);
    auto& readers = ingest[static_cast<std::size_t>(slot.index)];
    for (std::size_t k = 0; k < readers.size(); ++k) {
      readers[k]->run();
      const Input& input = graph.inputs[static_cast<std::size_t>(inputs.at(k))];
      replay.look_at_value(input.value, fmt::format("input '{}'", input.field), false);
    }
    for (PlanStep& step : steps) {
      step.kernel->run();
      const Node& node = graph.nodes[static_cast<std::size_t>(step.node)];
      if (step.whole && step.pass == Pass::forward) look_at_forward(*this, node, replay);
      if (step.whole && step.pass == Pass::backward) look_at_backward(*this, node, replay);
      if (!reducer || !step.sync.data) continue;
      reducer->submit(step.sync);
      reducer->wait();
    }
    device.close(slot, results.data, 0);
    next_slot = (next_slot + 1) % static_cast<i64>(slots.size());
  }
  return replay.found;
}

NonFinite Plan::find_nonfinite(const Batch& batch, const std::vector<SparseRows>& sparse,
                               Reducer* reducer) {
  return impl_->find_nonfinite({&batch, &sparse, nullptr, 0, false}, reducer);
}

}  // namespace cohort
