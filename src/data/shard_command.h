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
// Errors: Exit::usage (recipe), Exit::data (raw files), Exit::storage.
ShardReport shard(const std::string& recipe_path, const std::vector<std::string>& overrides);

}  // namespace cohort
