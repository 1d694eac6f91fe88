// Tensors of a v2 request, as JSON or as bytes behind it. Private to server_infer.cpp and tests.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "serve/server_infer.h"

namespace cohort {

struct RequestTensor {
  std::string name, datatype;
  std::vector<i64> shape;              // at least one dimension, none negative
  std::vector<nlohmann::json> values;  // numbers or texts, row by row
};
// One of "inputs"; takes its bytes off `binary` where it has "binary_data_size". BadRequest.
RequestTensor read_tensor(const nlohmann::json& from, std::string_view& binary);
// Row `row` of the tensor as the value of a raw row's column. BadRequest where the shape does not
// suit the column.
nlohmann::json raw_value(RequestTensor& tensor, i64 row, const Preprocess::Column& column);

}  // namespace cohort
