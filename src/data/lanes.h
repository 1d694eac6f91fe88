// Which row is used where: a closed form with no state but (epoch, step). The definition is
// section 4 of the design: block permutation, lanes cut by rows, windows shuffled inside lanes.
#pragma once
#include <memory>
#include <vector>

#include "data/shard_set.h"

namespace cohort {

struct LaneConfig {
  i64 global_batch = 1;
  i64 lanes = 0;        // V; 0: min(global_batch, 64)
  i64 window = 4;       // w: block pieces shuffled together
  u64 seed = 0;
  bool shuffle = true;  // false: blocks and rows in order (evaluation)
};
struct RowRef {
  i64 block = -1, row = -1;   // index into the split's blocks, row inside the block; -1: padding
};
struct Range { i64 begin = 0, end = 0; };
// Positions of rank r of N: [floor(rB/N), floor((r+1)B/N)).
Range owned_positions(i64 global_batch, int rank, int world);

class LaneSampler {
 public:
  LaneSampler(std::vector<Block> blocks, const LaneConfig& config);
  i64 rows() const;
  i64 steps() const;                          // ceil(rows / global_batch)
  // Rows of positions [range.begin, range.end) of a step, lane-major, -1 for padding.
  // Deterministic; caches the shuffled windows it touches; not thread-safe.
  std::vector<RowRef> rows_at(i64 epoch, i64 step, Range range);

 private:
  struct Epoch;
  std::vector<Block> blocks_;
  LaneConfig config_;
  std::shared_ptr<Epoch> epoch_;
};

}  // namespace cohort
