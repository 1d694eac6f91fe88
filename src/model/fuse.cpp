#include "model/fuse.h"

#include <algorithm>

namespace cohort {
namespace {

i64 sole_consumer(const Graph& graph, i64 value) {
  if (value == graph.prediction || value == graph.target) return -1;
  i64 found = -1;
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const auto& in = graph.nodes[n].in;
    const i64 uses = std::count(in.begin(), in.end(), value);
    if (uses == 0) continue;
    if (found >= 0 || uses > 1) return -1;
    found = static_cast<i64>(n);
  }
  return found;
}

Activation* activation_of(Op& op) {
  if (auto* dense = std::get_if<Dense>(&op)) return &dense->activation;
  if (auto* conv = std::get_if<Conv1d>(&op))
    return conv->max_over_time ? nullptr : &conv->activation;
  if (auto* conv = std::get_if<Conv2d>(&op)) return conv->pool ? nullptr : &conv->activation;
  if (auto* norm = std::get_if<BatchNorm>(&op)) return &norm->activation;
  if (auto* add = std::get_if<Add>(&op)) return &add->activation;
  return nullptr;
}

// Takes `next` into `op` if the closed list has the pair.
bool absorb(Op& op, const Op& next) {
  Activation* activation = activation_of(op);
  if (!activation) return false;
  if (const auto* activate = std::get_if<Activate>(&next)) {
    if (*activation != Activation::none) return false;
    *activation = activate->activation;
    return true;
  }
  if (*activation != Activation::relu) return false;
  if (auto* conv = std::get_if<Conv1d>(&op); conv && std::holds_alternative<MaxOverTime>(next)) {
    conv->max_over_time = true;
    return true;
  }
  const auto* pool = std::get_if<MaxPool2d>(&next);
  if (auto* conv = std::get_if<Conv2d>(&op); conv && pool && pool->size == pool->stride &&
      pool->padding == 0) {
    conv->pool = pool->size;
    return true;
  }
  return false;
}

}  // namespace

Graph fuse(Graph graph) {
  for (std::size_t n = 0; n < graph.nodes.size();) {
    const i64 next = graph.nodes[n].out.empty() ? -1 : sole_consumer(graph, graph.nodes[n].out[0]);
    if (next < 0 || !absorb(graph.nodes[n].op, graph.nodes[static_cast<std::size_t>(next)].op)) {
      ++n;
      continue;
    }
    graph.nodes[n].out = graph.nodes[static_cast<std::size_t>(next)].out;
    graph.nodes.erase(graph.nodes.begin() + next);
  }
  return graph;
}

}  // namespace cohort
