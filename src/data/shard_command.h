// `cohort shard`: raw files to a shard set, as a recipe says.
#pragma once
#include <string>
#include <vector>

#include "base/types.h"

namespace cohort {

struct ShardReport {
  std::string output;
  std::vector<std::pair<std::string, i64>> rows;  // per split
  i64 rejected = 0;
};
// Sources are read once; rows that do not fit `memory` bytes are sorted in a file beside the output,
// which changes nothing but the time. Held besides: joined tables, vocabularies, one shard, one IDX
// file, and the manifest. Errors: Exit::usage (recipe), Exit::data (raw files), Exit::storage.
ShardReport shard(const std::string& recipe_path, const std::vector<std::string>& overrides,
                  i64 memory = i64{1} << 30);

}  // namespace cohort
