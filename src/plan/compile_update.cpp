#include <algorithm>

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

void Plan::Impl::cut_buckets() {
  const i64 width = size_of(device.real());
  const auto& segments = state.layout().segments();
  std::vector<bool> frozen(segments.size());
  for (std::size_t p = 0; p < graph.params.size(); ++p)
    if (const i64 s = state.segment_of(static_cast<i64>(p)); s >= 0)
      frozen[static_cast<std::size_t>(s)] = graph.params[p].frozen;
  i64 begin = 0;
  bool trained = false;   // something of the bucket
  for (std::size_t s = 0; s < segments.size(); ++s) {
    trained = trained || !frozen[s];
    const i64 end = s + 1 < segments.size() ? segments[s + 1].offset : state.layout().size();
    if ((end - begin) * width < config.bucket_bytes && s + 1 < segments.size()) continue;
    Bucket bucket;
    bucket.range = View{state.grads.as<char>() + begin * width, device.real(), {end - begin}};
    if (trained) buckets.push_back(bucket);
    begin = end;
    trained = false;
  }
  for (std::size_t t = 0; t < state.tables.size(); ++t) {
    if (graph.params[static_cast<std::size_t>(state.tables[t].param)].frozen) continue;
    Bucket bucket;
    bucket.table = static_cast<i64>(t);
    buckets.push_back(bucket);
  }
}

// A bucket's reduction starts after the step that completes the last of its parameters.
void Plan::Impl::mark_bucket_steps(const std::vector<i64>& done) {
  const i64 width = size_of(device.real());
  for (std::size_t b = 0; b < buckets.size(); ++b) {
    i64 last = 0;
    for (std::size_t p = 0; p < graph.params.size(); ++p) {
      const i64 s = state.segment_of(static_cast<i64>(p));
      bool inside = false;
      if (s >= 0 && buckets[b].table < 0) {
        const i64 byte = state.layout().segments()[static_cast<std::size_t>(s)].offset * width;
        const i64 first = buckets[b].range.as<char>() - state.grads.as<char>();
        inside = byte >= first && byte < first + buckets[b].range.bytes();
      } else if (s < 0 && buckets[b].table >= 0) {
        inside = state.tables[static_cast<std::size_t>(buckets[b].table)].param ==
                 static_cast<i64>(p);
      }
      if (inside) last = std::max(last, done[p]);
    }
    steps[static_cast<std::size_t>(last)].buckets.push_back(static_cast<i64>(b));
  }
}

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
  dense.scalars = rows.scalars = reinterpret_cast<const Scalars*>(fixed + staging.scalars);
  dense.decision = rows.decision = state.decision;
  dense.params = state.params;
  dense.grads = state.grads;
  dense.slot0 = state.slot0;
  dense.slot1 = state.slot1;
  dense.average = state.average;
  dense.ema = rule.ema;
  for (std::size_t p = 0; p < graph.params.size(); ++p) {
    const Param& param = graph.params[p];
    const i64 s = state.segment_of(static_cast<i64>(p));
    if (s < 0 || param.frozen) continue;
    const Segment& segment = state.layout().segments()[static_cast<std::size_t>(s)];
    OptimizerSegment entry{segment.offset, segment.count(), 0, param.running};
    if (param.running) entry.decay = batch_norm_momentum(graph, static_cast<i64>(p));
    if (!param.running && param.decay) entry.decay = rule.weight_decay;
    dense.segments.push_back(entry);
  }
  if (!dense.segments.empty()) updates.push_back(device.compile(dense));
  const i64* active = reinterpret_cast<const i64*>(fixed + staging.active);
  for (TableState& table : state.tables) {
    const i64* table_active = active++;
    if (graph.params[static_cast<std::size_t>(table.param)].frozen) continue;
    rows.param = table.weight;
    rows.grad = table.grad;
    rows.slot0 = table.slot0;
    rows.slot1 = table.slot1;
    rows.rows = table.rows;
    rows.active = table_active;
    updates.push_back(device.compile(rows));
  }
  compile_norms();
}

// The squared norms of everything that has a gradient, and what follows from them.
void Plan::Impl::compile_norms() {
  const i64 parts = static_cast<i64>(state.tables.size()) + 1;
  squares = View{device.allocate(parts * 8), DType::f64, {parts}};
  const auto add = [&](NormCall call) {
    call.out = View{squares.as<double>() + norms.size(), DType::f64, {1}};
    norms.push_back(device.compile(call));
  };
  NormCall dense;
  for (std::size_t p = 0; p < graph.params.size(); ++p)
    if (state.segment_of(static_cast<i64>(p)) >= 0 && !graph.params[p].running &&
        !graph.params[p].frozen)
      dense.ranges.push_back(state.grad(static_cast<i64>(p)));
  if (!dense.ranges.empty()) add(dense);
  const i64* active = reinterpret_cast<const i64*>(fixed + staging.active);
  for (TableState& table : state.tables) {
    const i64* table_active = active++;
    if (!graph.params[static_cast<std::size_t>(table.param)].frozen)
      add({{table.grad}, table_active, {}});
  }
  DecideCall call;
  call.word = reinterpret_cast<const double*>(fixed + staging.word);
  call.squares = squares.as<double>();
  call.norms = static_cast<i64>(norms.size());
  call.clip_norm = config.optimizer.clip_norm;
  call.dynamic_scale = device.activation() == DType::f16;
  call.decision = state.decision;
  decision = device.compile(call);
}

}  // namespace cohort
