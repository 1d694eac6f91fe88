// Writes a shard set: see docs/shard_format.md.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "fields/schema.h"

namespace cohort {

// All rows of one field, in memory. starts[r] is the first element of row r (rows + 1 entries);
// for a fixed field it is empty.
struct FieldRows {
  Field field;
  std::vector<u8> values;
  std::vector<i64> starts;
};
struct RowTable {
  std::vector<FieldRows> fields;
  std::vector<i64> row_ids;         // unique
  std::vector<std::string> splits;  // names
  std::vector<i64> split;           // per row: index of its split
  std::vector<Vocabulary> vocabularies;
};
struct WriteOptions {
  std::string path;
  i64 rows_per_block = 64;
  i64 rows_per_shard = 4096;  // rounded up to whole blocks
  u64 seed = 1;
  bool shuffled = true;  // rows in order of XXH64(seed, row id), else as given
  std::string statistics_split = "train";
  std::string recipe;
};
// Fills the fields' statistics, writes, renames. Errors: Exit::data, Exit::storage.
void write_shards(RowTable& table, const WriteOptions& options, const nlohmann::json& lineage);

}  // namespace cohort
