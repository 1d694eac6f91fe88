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
  std::vector<nlohmann::json> values;  // numbers or texts, row by row; of bytes: after expand()
  std::string_view bytes;              // numbers, as sent behind the JSON
  std::vector<std::string_view> texts; // BYTES sent behind the JSON
  bool binary = false;
  void expand();
};
// One of "inputs"; takes its bytes off `binary` where it has "binary_data_size". BadRequest.
RequestTensor read_tensor(const nlohmann::json& from, std::string_view& binary);
// One value a row, where the tensor is that: `to` is a column of numbers, or of words if `words`. Not
// of numbers that are texts, nor of words that are fractions.
bool add_column(const RequestTensor& tensor, bool words, RawColumn& to);
// Row `row` of the expanded tensor as the value of a raw row's column. BadRequest where the shape does not
// suit the column.
nlohmann::json raw_value(RequestTensor& tensor, i64 row, const Preprocess::Column& column);

}  // namespace cohort
