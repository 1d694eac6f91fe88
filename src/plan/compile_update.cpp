#include "plan/plan_impl.h"

namespace cohort {
namespace {

OptimizerKind kind_from(const std::string& name) {
  if (name == "sgd") return OptimizerKind::sgd;
  return name == "adamw" ? OptimizerKind::adamw : OptimizerKind::adam;
}

double batch_norm_momentum(const Graph& graph, i64 param) {
  for (const Node& node : graph.nodes)
    for (i64 p : node.params)
      if (p == param) return std::get<BatchNorm>(node.op).momentum;
  return 0;
}

}  // namespace

// The optimizer: one pass over the dense arena with a table of segments, one call per sparse table;
// and the norms of everything that has a gradient.
void Plan::Impl::compile_update() {
  const OptimizerConfig& rule = config.optimizer;
  DenseUpdate dense;
  RowUpdate rows;
  dense.kind = rows.kind = kind_from(rule.name);
  dense.momentum = rows.momentum = rule.momentum;
  dense.beta1 = rows.beta1 = rule.beta1;
  dense.beta2 = rows.beta2 = rule.beta2;
  dense.epsilon = rows.epsilon = rule.epsilon;
  dense.scalars = rows.scalars = &scalars;
  dense.update_count = rows.update_count = &state.update_count;
  dense.params = state.params;
  dense.grads = state.grads;
  dense.slot0 = state.slot0;
  dense.slot1 = state.slot1;
  dense.running_rows = &running_rows;
  NormCall dense_norm;
  for (std::size_t p = 0; p < graph.params.size(); ++p) {
    const Param& param = graph.params[p];
    const i64 s = state.segment_of(static_cast<i64>(p));
    if (s < 0) continue;
    const Segment& segment = state.layout().segments()[static_cast<std::size_t>(s)];
    OptimizerSegment entry{segment.offset, segment.count(), 0, param.running};
    if (param.running) entry.decay = batch_norm_momentum(graph, static_cast<i64>(p));
    if (!param.running && param.decay) entry.decay = rule.weight_decay;
    if (!param.running) dense_norm.ranges.push_back(state.grad(static_cast<i64>(p)));
    dense.segments.push_back(entry);
  }
  if (!dense.segments.empty()) updates.push_back(device.compile(dense));
  dense_norm.out = norm;
  if (!dense_norm.ranges.empty()) norms.push_back(device.compile(dense_norm));
  for (TableState& table : state.tables) {
    rows.param = table.weight;
    rows.grad = table.grad;
    rows.slot0 = table.slot0;
    rows.slot1 = table.slot1;
    rows.rows = table.rows;
    rows.active = &table.active;
    updates.push_back(device.compile(rows));
    NormCall call;
    call.ranges = {table.grad};
    call.active_rows = &table.active;
    call.out = norm;
    norms.push_back(device.compile(call));
  }
}

}  // namespace cohort
