// The raw rows that a shard set keeps for serving: samples.jsonl (docs/shard_format.md).
#pragma once
#include <map>
#include <string>

#include "data/raw_rows.h"

namespace cohort {

// Of the rows of the held-out split (test, else validation, else the first other one by its name, else
// train), those with the smallest hash of (seed, row id). Memory holds them and their pictures' bytes,
// nothing of other rows.
class Samples {
 public:
  Samples(const Recipe& recipe, const RawSchema& schema);
  void add(const RawRow& row);
  // One JSON object a line, in order of the hash. Errors where a picture's file is gone.
  std::string text() const;

  static constexpr std::size_t most_rows = 256;

 private:
  std::string line(const RawRow& row) const;

  const Recipe& recipe_;
  RawSchema schema_;
  std::map<std::string, std::size_t> columns_;      // that fields read: name -> index
  std::string split_;                               // of rows_
  std::map<std::pair<u64, i64>, RawRow> rows_;      // by (hash, row id)
};

}  // namespace cohort
