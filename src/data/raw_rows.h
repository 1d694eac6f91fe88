// Raw rows before fields are made, and the readers of sources, which hold one row at a time.
#pragma once
#include <functional>
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
  bool picture_file = false;  // the picture is that of the file `place`
};
// What every row holds.
struct RawSchema {
  std::vector<std::string> columns;
  Shape image;  // [H, W, C]
  // Sets the columns where there are none, else checks that they are the same. Exit::data naming
  // `path`; columns of one name are refused.
  void set_columns(const std::vector<std::string>& names, const std::string& path);
  std::size_t column(const std::string& name) const;  // Exit::usage naming the known ones
};
// Where rows go, and the rows that cannot be used.
using RowSink = std::function<void(RawRow&&)>;
using RejectSink = std::function<void(const std::string& place, const std::string& reason)>;

// Gives the rows of one source in order, and appends its lineage (path, bytes, XXH64). The schema is
// set, or found to be the same, before the first row.
void read_source(const SourceConfig& source, const std::string& root, RawSchema& schema,
                 nlohmann::json& lineage, const RowSink& use, const RejectSink& reject);

// All of a row but its split.
std::string pack_row(const RawRow& row);
RawRow unpack_row(std::string_view bytes);

}  // namespace cohort
