// From the config's layers to a graph: names resolved, shapes inferred, parameters listed.
#pragma once
#include <vector>

#include "fields/schema.h"
#include "model/graph.h"
#include "model/model_config.h"

namespace cohort {

// Not fused (see fuse.h). Inputs in the order of the config, then the loss target if it is a field
// named only there. Errors (Exit::usage): file:line:column, the layer, expected, got, what to change.
Graph build_graph(const ModelConfig& config, const std::vector<Field>& fields,
                  const std::vector<Vocabulary>& vocabularies);

}  // namespace cohort
