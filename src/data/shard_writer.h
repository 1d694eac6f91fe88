// Writes a shard set: see docs/shard_format.md.
#pragma once
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "fields/schema.h"

namespace cohort {

// Rows of one shard, in their order. Ragged fields: starts[r] is the first element of row r (rows +
// 1 entries); empty for fixed ones.
struct FieldRows {
  Field field;
  std::vector<u8> values;
  std::vector<i64> starts;
  void add(const std::vector<u8>& row);
};
struct ShardRows {
  std::vector<FieldRows> fields;
  std::vector<i64> row_ids;  // unique
  void clear();              // all rows
};
struct WriteOptions {
  std::string path;
  i64 rows_per_block = 64;
  u64 seed = 1;
  bool shuffled = true;  // rows in order of XXH64(seed, row id): said, not made here
  std::string recipe;
};

class ShardWriter {
 public:
  explicit ShardWriter(const WriteOptions& options);  // makes the temporary folder
  ~ShardWriter();                                     // removes it unless committed
  // One file of a split; the splits come one after the other. Errors: Exit::storage.
  void write(const std::string& split, const ShardRows& rows);
  void write_samples(const std::string& text);  // samples.jsonl
  const std::vector<std::pair<std::string, i64>>& rows() const;  // per split, as written
  void commit(const std::vector<Field>& fields, const std::vector<Vocabulary>& vocabularies,
              const nlohmann::json& sources);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cohort
