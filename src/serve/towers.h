// Models whose prediction is the dot product of a user's and an item's vector, or activations of it:
// see towers_of().
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "fields/schema.h"
#include "model/graph.h"

namespace cohort {

struct Tower {
  i64 value = -1;             // its vector, of Graph::values
  std::vector<i64> inputs;    // indices into Graph::inputs
  i64 key = -1;               // of these, the one whose id names the user or the item
};
struct TwoTowers {
  Tower user, item;
  std::vector<Activation> tail;   // of the dot, in order; none falls where its argument rises
  double score_of(double dot) const;   // the prediction
};

// Nothing where the graph is no such model, another layer follows the dot, or a tower has no embedding
// of one id that names its rows. `why_not`: why a model with a dot has none; else empty.
std::optional<TwoTowers> find_towers(const Graph& graph, std::string* why_not = nullptr);

// What computes one value alone: its inputs, nodes and parameters, without a target and a loss. It
// is the prediction of the result.
Graph part_of(const Graph& graph, i64 value);

// The vocabulary of an input's field, or null.
const Vocabulary* vocabulary_of(const std::string& field, const std::vector<Field>& fields,
                                const std::vector<Vocabulary>& vocabularies);

}  // namespace cohort
