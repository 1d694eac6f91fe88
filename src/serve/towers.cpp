#include "serve/towers.h"

#include <algorithm>
#include <cmath>
#include <variant>

#include "base/error.h"
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

const Node* node_of(const Graph& graph, i64 value) {
  for (const Node& node : graph.nodes)
    if (!node.out.empty() && node.out[0] == value) return &node;
  return nullptr;
}

// The first layer of another kind on the way from the prediction back to the dot, or null. A dropout
// does nothing here.
const Node* take_tail(const Graph& graph, std::vector<Activation>& tail) {
  const Node* node = node_of(graph, graph.prediction);
  for (; node && !std::holds_alternative<Dot>(node->op); node = node_of(graph, node->in.at(0))) {
    if (const auto* op = std::get_if<Activate>(&node->op))
      tail.insert(tail.begin(), op->activation);
    else if (!std::holds_alternative<Dropout>(node->op))
      return node;
  }
  return nullptr;
}

std::string why_no_key(const char* whose) {
  return fmt::format("the {} vector comes from no embedding of one id", whose);
}

}  // namespace

double TwoTowers::score_of(double dot) const {
  for (const Activation kind : tail) {
    if (kind == Activation::relu) dot = std::max(dot, 0.0);
    if (kind == Activation::tanh) dot = std::tanh(dot);
    if (kind == Activation::sigmoid) dot = 1 / (1 + std::exp(-dot));
  }
  return dot;
}

std::optional<TwoTowers> find_towers(const Graph& graph, std::string* why_not) {
  const auto refused = [&](const std::string& why) {
    if (why_not) *why_not = why;
    return std::nullopt;
  };
  const Flags behind = nodes_behind(graph, graph.prediction);
  bool dot = false;
  for (std::size_t n = 0; n < behind.size(); ++n)
    dot = dot || (behind[n] && std::holds_alternative<Dot>(graph.nodes[n].op));
  if (!dot) return refused("");
  const auto found = towers_of(graph);
  if (!found)
    return refused("the two vectors of the dot have an input in common, or there is a way around it");
  TwoTowers towers{tower_of(graph, found->user), tower_of(graph, found->item), {}};
  if (const Node* other = take_tail(graph, towers.tail))
    return refused(fmt::format("layer '{}' ({}) stands behind the dot, expected activations alone",
                               other->name, kind_of(other->op)));
  if (towers.user.key < 0) return refused(why_no_key("first"));
  if (towers.item.key < 0) return refused(why_no_key("second"));
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
