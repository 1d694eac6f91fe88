#include <gtest/gtest.h>

#include <algorithm>

#include "data/lanes.h"

namespace cohort {
namespace {

TEST(Lanes, EveryRowOnceAndTheSameBatchOnAnyRankCount) {
  std::vector<Block> blocks;
  for (i64 at = 0; at < 1001; at += 37) blocks.push_back({0, at, std::min<i64>(37, 1001 - at)});
  for (i64 lanes : {1, 8, 24}) {
    LaneSampler sampler(blocks, {100, lanes, 4, 1, true});
    std::vector<int> used(1001, 0);
    for (i64 step = sampler.steps() - 1; step >= 0; --step) {
      const auto whole = sampler.rows_at(0, step, {0, 100});
      i64 valid = 0;
      for (const RowRef& row : whole) {
        if (row.block < 0) continue;
        ++valid;
        ++used[static_cast<std::size_t>(row.block * 37 + row.row)];
      }
      EXPECT_EQ(valid, step == 10 ? 1 : 100);
      for (int n : {1, 2, 3, 5, 7, 8, 16, 31, 32}) {
        std::size_t at = 0;
        for (int r = 0; r < n; ++r) {
          LaneSampler fresh(blocks, {100, lanes, 4, 1, true});
          for (const RowRef& row : fresh.rows_at(0, step, owned_positions(100, r, n))) {
            ASSERT_EQ(row.block, whole[at].block);
            ASSERT_EQ(row.row, whole[at++].row);
          }
        }
        ASSERT_EQ(at, 100u);
      }
    }
    for (int count : used) EXPECT_EQ(count, 1);
  }
}

}  // namespace
}  // namespace cohort
