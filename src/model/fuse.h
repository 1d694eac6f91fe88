// Fewer passes over memory, same answers.
#pragma once
#include "model/graph.h"

namespace cohort {

// Merges, where the inner value has one consumer and is not the prediction:
// (dense | conv1d | conv2d) + activation; conv1d + relu + max_over_time; conv2d + relu + max_pool2d
// with size == stride and no padding; (batch_norm | add) + activation. The values merged away stay in Graph::values, unused; the node keeps the
// first layer's name and parameters.
Graph fuse(Graph graph);

}  // namespace cohort
