// Values of a raw row, JSON, to the text that cells of raw files have. These throw BadCell with
// what was expected and got.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "data/recipe.h"
#include "tensor/tensor.h"

namespace cohort {

std::string clipped(const std::string& text, std::size_t most);  // whole characters, "..." behind
std::string describe(const nlohmann::json& value);     // for messages: "a list of 3", "'abc'"
std::string expected_of(const std::string& kind);      // of Preprocess::Column
std::string number_cell(const nlohmann::json& value);  // a number or its text
std::string name_cell(const nlohmann::json& value);    // a text or a whole number
// Words of a text, or of a list with one word or number an element; numbers of a width over 1 may
// be lists in the list.
std::vector<std::string> sequence_cells(const nlohmann::json& value, const FieldConfig& config);
// Bytes [height, width, channels] of a JPEG or PNG file: JSON's binary value, or the base64 of it,
// "data:...;base64," before it or not. Another size is resized where `resize`, else an error.
struct PictureRule {
  bool resize = false;
  i64 most_pixels = i64{1} << 26;   // of a picture of another size
};
std::vector<u8> picture_of(const nlohmann::json& value, const Shape& shape,
                           const PictureRule& rule);

}  // namespace cohort
