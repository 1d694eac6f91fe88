// Which rows of an embedding table the ranks' batches name together.
#pragma once
#include <vector>

#include "comm/communicator.h"

namespace cohort {

struct RowUnion {
  std::vector<i32> rows;   // sorted, each once: the same on every rank
  std::vector<i32> local;  // of each id given: its index in rows, -1 where the id is -1
};
// Collective on `channel` (one of its own per thread).
RowUnion agree_rows(Communicator& channel, const std::vector<i32>& ids);

}  // namespace cohort
