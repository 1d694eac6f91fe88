#include "plan/cost.h"

#include <algorithm>
#include <set>
#include <variant>

#include "plan/memory.h"

namespace cohort {
namespace {

double real(i64 n) { return static_cast<double>(n); }

// Places of a row at which an op applies its weights, and from which gradients come back: of a
// convolution with its max pool, only the places that won.
struct Places {
  double forward = 0, backward = 0;
};

// Backward reads these operands beside the gradients.
struct Reads {
  bool in = false, out = false;
};

Reads backward_reads(const Op& op) {
  const auto bends = [](Activation a) { return a != Activation::none; };
  if (const auto* o = std::get_if<Dense>(&op)) return {true, bends(o->activation)};
  if (const auto* o = std::get_if<Conv1d>(&op)) return {true, bends(o->activation)};
  if (const auto* o = std::get_if<Conv2d>(&op)) return {true, bends(o->activation)};
  if (const auto* o = std::get_if<Activate>(&op)) return {false, bends(o->activation)};
  if (const auto* o = std::get_if<Add>(&op)) return {false, bends(o->activation)};
  if (std::holds_alternative<Recurrent>(op)) return {true, true};
  if (std::holds_alternative<BatchNorm>(op)) return {true, false};   // the slope follows from `in`
  return {std::holds_alternative<Dot>(op) || std::holds_alternative<Loss>(op), false};
}

class Counter {
 public:
  explicit Counter(const CostInputs& inputs) : in_(inputs), graph_(*inputs.graph) {
    MemoryInputs memory{&graph_, in_.rows, in_.value_bytes, true, {}};
    memory.saved_bytes.assign(graph_.nodes.size(), 0);
    map_ = place_memory(memory);
  }

  std::vector<StepCost> count() {
    const i64 n = static_cast<i64>(graph_.nodes.size());
    for (i64 k = 0; k < n; ++k) forward(k);
    for (i64 k = n - 1; k >= 0; --k)
      if (map_.runs_backward[static_cast<std::size_t>(k)]) backward(k);
    for (StepCost& cost : costs_) {
      cost.flops *= passes();
      cost.read *= passes();
      cost.written *= passes();
    }
    update();
    return std::move(costs_);
  }

 private:
  const Node& node(i64 k) const { return graph_.nodes[static_cast<std::size_t>(k)]; }
  const Value& value(i64 v) const { return graph_.values[static_cast<std::size_t>(v)]; }
  const Param& param(i64 p) const { return graph_.params[static_cast<std::size_t>(p)]; }
  bool wanted(i64 v) const { return map_.needs_gradient[static_cast<std::size_t>(v)] != 0; }
  double bytes(i64 v) const {
    return real(in_.rows * count_of(v) * (value(v).integer ? 4 : in_.value_bytes));
  }
  i64 count_of(i64 v) const { return cohort::count(value(v).shape); }
  double saved(i64 k) const {
    return in_.saved_bytes.empty() ? 0 : real(in_.saved_bytes[static_cast<std::size_t>(k)]);
  }
  double param_bytes(i64 p) const {
    return real(cohort::count(param(p).shape) * in_.real_bytes);
  }
  // Rows of an embedding's table that a pass can name.
  double touched_bytes(const Node& n) const {
    const Shape& table = param(n.params.at(0)).shape;
    const i64 ids = in_.rows * count_of(n.in.at(0));
    return real(std::min(table[0], ids) * table[1] * in_.real_bytes);
  }
  StepCost& add(const std::string& pass, const Node& n) {
    costs_.push_back({pass + " " + kind_of(n.op) + " " + n.name, 0, 0, 0});
    return costs_.back();
  }

  double weights(i64 p) const {
    return param(p).shape.size() > 1 ? real(cohort::count(param(p).shape)) : 0;
  }
  Places places(const Node& n) const {
    if (std::holds_alternative<Embedding>(n.op) || n.params.empty()) return {};
    const Shape& in = value(n.in.at(0)).shape;
    const double outputs = real(count_of(n.out.at(0)));
    if (std::holds_alternative<Recurrent>(n.op)) return {real(in[0]), real(in[0])};
    if (const auto* d = std::get_if<Dense>(&n.op)) {
      const double vectors = outputs / real(d->units);
      return {vectors, vectors};
    }
    if (const auto* c = std::get_if<Conv1d>(&n.op))
      return {real(in[0] - c->width + 1), outputs / real(c->filters)};
    const auto* c = std::get_if<Conv2d>(&n.op);
    if (!c) return {};
    const i64 height = (in[0] + 2 * c->padding - c->kernel) / c->stride + 1;
    const i64 width = (in[1] + 2 * c->padding - c->kernel) / c->stride + 1;
    return {real(height * width), outputs / real(c->filters)};
  }

  void forward(i64 k) {
    const Node& n = node(k);
    if (std::holds_alternative<Ingest>(n.op)) return ingest(n);
    if (std::holds_alternative<BatchNorm>(n.op)) add("fwd", n).read = bytes(n.in[0]);   // the sums
    StepCost& cost = add("fwd", n);
    for (i64 v : n.in) cost.read += bytes(v);
    for (i64 p : n.params) {
      cost.flops += 2 * weights(p) * places(n).forward * real(in_.rows);
      if (!std::holds_alternative<Embedding>(n.op) && !param(p).running)
        cost.read += param_bytes(p);
    }
    if (std::holds_alternative<Embedding>(n.op)) cost.read += touched_bytes(n);
    cost.written = saved(k);
    if (std::holds_alternative<Loss>(n.op)) return;
    for (i64 v : n.out) cost.written += bytes(v);
  }

  void ingest(const Node& n) {
    StepCost& cost = add("fwd", n);
    for (const Input& input : graph_.inputs)
      if (input.value == n.out.at(0))
        cost.read = real(in_.rows * cohort::count(input.shape) * size_of(input.dtype));
    cost.written = bytes(n.out[0]);
  }

  void backward(i64 k) {
    const Node& n = node(k);
    if (std::holds_alternative<BatchNorm>(n.op))
      add("bwd", n).read = bytes(n.in[0]) + bytes(n.out[0]);   // the sums
    StepCost& cost = add("bwd", n);
    const Reads reads = backward_reads(n.op);
    cost.read = saved(k);
    if (!std::holds_alternative<Loss>(n.op)) cost.read += bytes(n.out[0]);   // its gradient
    if (reads.out) cost.read += bytes(n.out[0]);
    for (i64 v : n.in) {
      if (reads.in) cost.read += bytes(v);
      if (!wanted(v)) continue;
      if (!written_.insert(v).second) cost.read += bytes(v);   // adds to what is there
      cost.written += bytes(v);
    }
    add_parameters(n, cost);
  }

  // Gradients of parameters are added to; weights are read where a gradient goes through them.
  void add_parameters(const Node& n, StepCost& cost) {
    if (std::holds_alternative<Embedding>(n.op)) {
      cost.read += bytes(n.in[0]) + touched_bytes(n);
      cost.written += touched_bytes(n);
      return;
    }
    for (std::size_t i = 0; i < n.params.size(); ++i) {
      const i64 p = n.params[i];
      if (param(p).running) continue;
      cost.read += param_bytes(p);
      cost.written += param_bytes(p);
      const bool carried = std::holds_alternative<Recurrent>(n.op) && i == 1;   // over the steps
      const bool through = carried || wanted(n.in[0]);
      const double product = 2 * weights(p) * places(n).backward * real(in_.rows);
      cost.flops += through ? 2 * product : product;
      if (through && weights(p) > 0) cost.read += param_bytes(p);
    }
  }

  // Reals read and written for an element that moves.
  static StepCost moved(const std::string& what, double bytes, double reads, double writes) {
    return {what, 0, reads * bytes, writes * bytes};
  }
  StepCost rule(const std::string& what, double bytes, bool sparse) const {
    if (in_.optimizer.name != "sgd") return moved(what, bytes, 4, 3);
    const bool slot = in_.optimizer.momentum != 0 && !sparse;
    return slot ? moved(what, bytes, 3, 2) : moved(what, bytes, 2, 1);
  }

  void update() {
    double dense = 0, running = 0, rows = 0;
    std::vector<StepCost> tables;
    for (const Node& n : graph_.nodes) {
      for (i64 p : n.params) {
        if (param(p).running) {
          running += param_bytes(p);
        } else if (!param(p).sparse) {
          dense += param_bytes(p);
        } else {
          const double touched = std::min(param_bytes(p), touched_bytes(n) * passes());
          rows += touched;
          tables.push_back(rule("update " + param(p).name, touched, true));
        }
      }
    }
    costs_.push_back(moved("zero gradients", dense + running + rows, 0, 1));
    costs_.push_back(moved("norm", dense + rows, 1, 0));
    StepCost all = rule("update", dense, false);
    if (in_.optimizer.ema > 0) {   // the average moves
      all.read += dense;
      all.written += dense;
    }
    all.read += 2 * running;
    all.written += running;
    if (dense + running > 0) costs_.push_back(all);
    costs_.insert(costs_.end(), tables.begin(), tables.end());
  }
  double passes() const { return real(in_.micro_batches); }

  const CostInputs& in_;
  const Graph& graph_;
  MemoryMap map_;
  std::set<i64> written_;   // gradients of values
  std::vector<StepCost> costs_;
};

}  // namespace

std::vector<StepCost> count_costs(const CostInputs& inputs) { return Counter(inputs).count(); }

StepCost total_of(const std::vector<StepCost>& costs) {
  StepCost total{"step", 0, 0, 0};
  for (const StepCost& cost : costs) {
    total.flops += cost.flops;
    total.read += cost.read;
    total.written += cost.written;
  }
  return total;
}

double roofline_seconds(const std::vector<StepCost>& costs, double flops, double bytes) {
  double seconds = 0;
  for (const StepCost& cost : costs)
    seconds += std::max(cost.flops / flops, (cost.read + cost.written) / bytes);
  return seconds;
}

}  // namespace cohort
