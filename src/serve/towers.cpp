#include "serve/towers.h"

#include <algorithm>
#include <variant>

#include "export/onnx.h"
#include "serve/index.h"

namespace cohort {
namespace {

using Flags = std::vector<char>;

// Of the nodes in order, those that `value` depends on.
Flags nodes_behind(const Graph& graph, i64 value) {
  Flags nodes(graph.nodes.size(), 0), wanted(graph.values.size(), 0);
  wanted[at(value)] = 1;
  for (std::size_t n = graph.nodes.size(); n-- > 0;) {
    const Node& node = graph.nodes[n];
    if (std::holds_alternative<Loss>(node.op)) continue;
    if (std::none_of(node.out.begin(), node.out.end(), [&](i64 v) { return wanted[at(v)]; }))
      continue;
    nodes[n] = 1;
    for (const i64 v : node.in) wanted[at(v)] = 1;
  }
  return nodes;
}

std::vector<i64> inputs_behind(const Graph& graph, const Flags& nodes) {
  std::vector<i64> inputs;
  for (std::size_t k = 0; k < graph.inputs.size(); ++k) {
    for (std::size_t n = 0; n < nodes.size(); ++n) {
      const Node& node = graph.nodes[n];
      if (nodes[n] && std::holds_alternative<Ingest>(node.op) &&
          node.out.at(0) == graph.inputs[k].value)
        inputs.push_back(static_cast<i64>(k));
    }
  }
  return inputs;
}

Tower tower_of(const Graph& graph, i64 value) {
  const Flags nodes = nodes_behind(graph, value);
  Tower tower{value, inputs_behind(graph, nodes), -1};
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    if (!nodes[n] || !std::holds_alternative<Embedding>(node.op)) continue;
    for (const i64 k : tower.inputs) {
      const Input& input = graph.inputs[at(k)];
      if (tower.key < 0 && input.value == node.in.at(0) && !input.ragged && count(input.shape) == 1)
        tower.key = k;
    }
  }
  return tower;
}

}  // namespace

std::optional<TwoTowers> find_towers(const Graph& graph) {
  const auto found = towers_of(graph);
  const bool last = std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) {
    return std::holds_alternative<Dot>(node.op) && node.out.at(0) == graph.prediction;
  });
  if (!found || !last) return {};
  const TwoTowers towers{tower_of(graph, found->user), tower_of(graph, found->item)};
  if (towers.user.key < 0 || towers.item.key < 0) return {};
  return towers;
}

Graph part_of(const Graph& graph, i64 value) {
  const Flags nodes = nodes_behind(graph, value);
  Graph part;
  part.values = graph.values;
  part.prediction = value;
  const std::vector<i64> inputs = inputs_behind(graph, nodes);
  for (const i64 k : inputs) part.inputs.push_back(graph.inputs[at(k)]);
  for (Value& v : part.values) {
    if (v.lengths < 0) continue;
    const auto found = std::find(inputs.begin(), inputs.end(), v.lengths);
    v.lengths = found == inputs.end() ? -1 : found - inputs.begin();
  }
  std::vector<i64> params(graph.params.size(), -1);
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    if (!nodes[n]) continue;
    Node node = graph.nodes[n];
    for (i64& p : node.params) {
      i64& home = params[at(p)];
      if (home < 0) {
        home = static_cast<i64>(part.params.size());
        part.params.push_back(graph.params[at(p)]);
      }
      p = home;
    }
    part.nodes.push_back(std::move(node));
  }
  return part;
}

const Vocabulary* vocabulary_of(const std::string& field, const std::vector<Field>& fields,
                                const std::vector<Vocabulary>& vocabularies) {
  for (const Field& f : fields) {
    if (f.name != field || f.vocabulary.empty()) continue;
    for (const Vocabulary& v : vocabularies)
      if (v.name == f.vocabulary) return &v;
  }
  return nullptr;
}

}  // namespace cohort
