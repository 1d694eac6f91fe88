// Raw rows before fields are made, and the readers of sources.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "data/recipe.h"
#include "tensor/tensor.h"

namespace cohort {

struct RawRow {
  std::vector<std::string> cells;
  std::string split, place;  // place: file:line
  std::string image;         // bytes of the picture, where the source has them
  i64 id = 0;
};
struct Reject {
  std::string place, reason;
};
struct RawTable {
  std::vector<std::string> columns;
  Shape image;  // [H, W, C]
  std::vector<RawRow> rows;
  std::vector<Reject> rejects;
  i64 column(const std::string& name) const;  // Exit::usage naming the known ones
};
// Appends the rows of one source and its lineage (path, bytes, XXH64).
void read_source(const SourceConfig& source, const std::string& root, RawTable& table,
                 nlohmann::json& lineage);

}  // namespace cohort
