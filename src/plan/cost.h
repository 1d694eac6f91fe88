// What a training step must do at least, counted from the graph alone: no hardware, no memory.
//
// Per entry of the plan's flat list: the operands, each read or written once. Not counted: what a
// device keeps for the way back (unless saved_bytes says so), lengths, keys and sums, reductions
// over ranks. Every row and step of a batch counts as valid.
#pragma once
#include <string>
#include <vector>

#include "model/graph.h"
#include "model/optimizer.h"

namespace cohort {

struct StepCost {
  std::string what;               // "fwd dense hidden"
  double flops = 0;               // of products with weights; a multiply and an add are two
  double read = 0, written = 0;   // bytes
};

struct CostInputs {
  const Graph* graph = nullptr;
  i64 rows = 0;                   // of a pass
  i64 micro_batches = 1;
  i64 value_bytes = 4;            // of an activation
  i64 real_bytes = 4;             // of a parameter
  OptimizerConfig optimizer;
  // Per node: what the device writes forward for the way back, such as gates, choices and copies of
  // weights. Empty: nothing.
  std::vector<i64> saved_bytes;
};

// In the order of the flat list (a node of two phases twice), then zeroing, norm and update.
std::vector<StepCost> count_costs(const CostInputs& inputs);
StepCost total_of(const std::vector<StepCost>& costs);

// Seconds where every entry is bound by arithmetic or by memory, one after another.
double roofline_seconds(const std::vector<StepCost>& costs, double flops, double bytes);

}  // namespace cohort
