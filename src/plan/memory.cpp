#include "plan/memory.h"

#include <algorithm>
#include <variant>

#include "tensor/layout.h"

namespace cohort {
namespace {

using Flags = std::vector<char>;

void find_gradients(const Graph& graph, MemoryMap& map) {
  map.needs_gradient.assign(graph.values.size(), 0);
  map.runs_backward.assign(graph.nodes.size(), 0);
  Flags reached(graph.values.size(), 0);   // a gradient arrives here from the loss
  for (const Node& node : graph.nodes) {
    bool trainable = std::any_of(node.params.begin(), node.params.end(), [&](i64 p) {
      const Param& param = graph.params[static_cast<std::size_t>(p)];
      return !param.running && !param.frozen;
    });
    for (i64 v : node.in) trainable |= map.needs_gradient[static_cast<std::size_t>(v)] != 0;
    if (std::holds_alternative<Ingest>(node.op)) trainable = false;
    for (i64 v : node.out) map.needs_gradient[static_cast<std::size_t>(v)] = trainable;
  }
  for (i64 i = static_cast<i64>(graph.nodes.size()) - 1; i >= 0; --i) {
    const Node& node = graph.nodes[static_cast<std::size_t>(i)];
    bool run = std::holds_alternative<Loss>(node.op);
    for (i64 v : node.out) run |= reached[static_cast<std::size_t>(v)] != 0;
    bool wanted = false;
    for (i64 v : node.in) wanted |= map.needs_gradient[static_cast<std::size_t>(v)] != 0;
    const bool own = !std::holds_alternative<Ingest>(node.op) &&
                     std::any_of(node.params.begin(), node.params.end(), [&](i64 p) {
                       return !graph.params[static_cast<std::size_t>(p)].frozen;
                     });
    if (!run || !(wanted || own)) continue;
    map.runs_backward[static_cast<std::size_t>(i)] = 1;
    for (i64 v : node.in)
      if (map.needs_gradient[static_cast<std::size_t>(v)]) reached[static_cast<std::size_t>(v)] = 1;
  }
  for (std::size_t v = 0; v < reached.size(); ++v)
    map.needs_gradient[v] = map.needs_gradient[v] && reached[v];
}

struct Life {
  i64 bytes = 0, first = -1, last = -1;
  void touch(i64 time) {
    first = first < 0 ? time : std::min(first, time);
    last = std::max(last, time);
  }
};

i64 bytes_of(const MemoryInputs& in, const Value& value) {
  return in.rows * count(value.shape) * (value.integer ? 4 : in.real_bytes);
}

}  // namespace

MemoryMap place_memory(const MemoryInputs& in) {
  const Graph& graph = *in.graph;
  const i64 n = static_cast<i64>(graph.nodes.size());
  MemoryMap map;
  find_gradients(graph, map);
  if (!in.train) {
    std::fill(map.needs_gradient.begin(), map.needs_gradient.end(), 0);
    std::fill(map.runs_backward.begin(), map.runs_backward.end(), 0);
  }
  std::vector<Life> values(graph.values.size()), gradients(graph.values.size()),
      saved(graph.nodes.size());
  for (std::size_t v = 0; v < values.size(); ++v) {
    values[v].bytes = gradients[v].bytes = bytes_of(in, graph.values[v]);
  }
  for (i64 i = 0; i < n; ++i) {
    const Node& node = graph.nodes[static_cast<std::size_t>(i)];
    const bool back = map.runs_backward[static_cast<std::size_t>(i)] != 0;
    Life& keep = saved[static_cast<std::size_t>(i)];
    keep.bytes = in.saved_bytes[static_cast<std::size_t>(i)];
    keep.touch(i);
    if (back) keep.touch(2 * n - 1 - i);
    for (const auto* list : {&node.in, &node.out}) {
      for (i64 v : *list) {
        values[static_cast<std::size_t>(v)].touch(i);
        if (back) values[static_cast<std::size_t>(v)].touch(2 * n - 1 - i);
        if (back && map.needs_gradient[static_cast<std::size_t>(v)])
          gradients[static_cast<std::size_t>(v)].touch(2 * n - 1 - i);
      }
    }
  }
  // The prediction and the target are read after the run.
  for (i64 v : {graph.prediction, graph.target})
    if (v >= 0) values[static_cast<std::size_t>(v)].touch(2 * n);

  std::vector<Lifetime> lives;
  std::vector<i64*> homes;
  const auto place = [&](std::vector<Life>& from, std::vector<i64>& to, const Flags* wanted) {
    to.assign(from.size(), -1);
    for (std::size_t k = 0; k < from.size(); ++k) {
      if (from[k].first < 0 || from[k].bytes == 0 || (wanted && !(*wanted)[k])) continue;
      lives.push_back({from[k].bytes, from[k].first, from[k].last});
      homes.push_back(&to[k]);
    }
  };
  place(values, map.value, nullptr);
  place(gradients, map.gradient, &map.needs_gradient);
  place(saved, map.saved, nullptr);
  const Packing packing = pack(lives);
  for (std::size_t k = 0; k < homes.size(); ++k) *homes[k] = packing.offsets[k];
  map.bytes = packing.bytes;
  return map;
}

}  // namespace cohort
