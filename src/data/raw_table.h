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

// Rows of one key (and split) become one row: the key's column, the sequence columns with their
// values in order of time (ties: as read) joined by spaces, and 'deltas', the time since the row
// before (0 for the first). Rows with a bad time or an empty or spaced value become rejects.
void group_rows(const Group& group, RawTable& table);
// Events per user and period, as a dense series from the user's first event to the last period of
// the data: one row for every period p after the user's first, with columns user, 'period' (p),
// 'events' (counts of the up to `history` periods before p, oldest first, joined by spaces) and
// 'target' (count of p). Periods are time / period rounded down. Splits by p alone: the last
// `test` part of all periods is test, `validation` of them before that validation.
void aggregate_rows(const Aggregate& aggregate, RawTable& table);

}  // namespace cohort
