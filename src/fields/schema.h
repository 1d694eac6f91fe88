// What a row of a shard set holds. A field is fixed (same shape in every row) or ragged (a sequence
// of elements of one shape).
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace cohort {

struct FieldStats {             // over the training split, per element of the last dimension
  std::vector<double> mean, stddev, min, max;   // empty for id fields
  i64 max_length = 0;           // ragged: longest row over all splits
  double mean_length = 0;
};

// A column of names that became 0/1 elements: behind the plain numbers, one per name, in this order.
struct OneHot {
  std::string column;
  std::vector<std::string> names;
};

struct Field {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;                  // of a row, or of one element of a ragged row; {} is a scalar
  bool ragged = false;
  i64 classes = 0;              // ids lie in [0, classes); 0 for plain numbers
  std::string vocabulary;       // name of a vocabulary in the manifest, or empty
  FieldStats stats;
  std::vector<OneHot> one_hot = {};
};

struct Vocabulary {
  std::string name;
  std::vector<std::string> entries;   // index = id
};

void to_json(nlohmann::json& json, const Field& field);
void from_json(const nlohmann::json& json, Field& field);

}  // namespace cohort
