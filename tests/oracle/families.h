// Small models of every family, with batch norm and dropout on, and rows to train them on.
#pragma once
#include <string>
#include <vector>

#include "replica.h"

namespace cohort::testing {

struct Family {
  std::string name;
  std::string model;  // YAML
  std::vector<Field> fields;
  OptimizerConfig optimizer;
};
Family with_batch_norm(const std::string& name);     // the families by name
Family without_batch_norm(const std::string& name);  // the same, dropout kept
std::vector<std::string> family_names();
// Training by one rank in several buckets.
PlanConfig one_rank(const Family& family, i64 rows);

// An epoch is three steps of `global_batch`; the last one has rows only at positions p with
// p % 3 != 1, so that ranks have padding in the middle of their positions.
struct Slice {
  i64 step = 0;  // counted over epochs
  Range positions;
  i64 capacity = 0;  // rows of the batch, padding included
};
// Valid rows first. Padding rows and steps beyond a row's length hold NaN, id -1 or 255.
Batch rows_of(const Graph& graph, const std::vector<Field>& fields, i64 global_batch,
              const Slice& slice);

}  // namespace cohort::testing
