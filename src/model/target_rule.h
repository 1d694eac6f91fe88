// How a target of numbers was made of raw ones, and the way back from a prediction.
#pragma once
#include <string>
#include <vector>

#include "model/op.h"

namespace cohort {

struct TargetRule {
  std::string field;
  // Of the recipe: stored = ((log1p ? log(1 + raw) : raw) + offset) * scale.
  bool log1p = false;
  double offset = 0, scale = 1;
  // Of the model, where the target is one of its inputs: what is predicted of what is stored.
  Ingest ingest;

  bool reversible() const;   // no zero scale
  // Of element k the channel is k modulo the number of them.
  std::vector<double> raw_of(const std::vector<double>& predicted) const;
};

}  // namespace cohort
