#include "data/row_union.h"

#include <gtest/gtest.h>

#include <set>

#include "base/rng.h"

namespace cohort {
namespace {

std::vector<i32> ids_of(int rank, i64 count, i64 bound) {
  Stream stream(mix_key(3, static_cast<u64>(rank)));
  std::vector<i32> ids;
  for (i64 i = 0; i < count; ++i) ids.push_back(static_cast<i32>(stream.below(bound)) - 1);
  return ids;  // -1 (padding) among them
}

TEST(RowUnion, SameSortedRowsOnEveryRank) {
  for (int n = 1; n <= 4; ++n) {
    std::set<i32> all;
    for (int rank = 0; rank < n; ++rank) {
      for (i32 id : ids_of(rank, 37 * rank, 90)) {
        if (id >= 0) all.insert(id);
      }
    }
    std::vector<RowUnion> unions(static_cast<std::size_t>(n));
    run_as_threads(n, [&](Communicator& c) {
      unions[static_cast<std::size_t>(c.rank())] = agree_rows(c, ids_of(c.rank(), 37 * c.rank(), 90));
    });
    for (int rank = 0; rank < n; ++rank) {
      const RowUnion& mine = unions[static_cast<std::size_t>(rank)];
      EXPECT_EQ(mine.rows, std::vector<i32>(all.begin(), all.end())) << n << " ranks";
      const std::vector<i32> ids = ids_of(rank, 37 * rank, 90);
      ASSERT_EQ(mine.local.size(), ids.size());
      for (std::size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] < 0) {
          EXPECT_EQ(mine.local[i], -1);
        } else {
          EXPECT_EQ(mine.rows.at(static_cast<std::size_t>(mine.local[i])), ids[i]);
        }
      }
    }
  }
}

TEST(RowUnion, ByHand) {
  run_as_threads(2, [](Communicator& c) {
    const RowUnion got = agree_rows(c, c.rank() == 0 ? std::vector<i32>{7, -1, 2, 7}
                                                     : std::vector<i32>{5, 2147483647, 2});
    EXPECT_EQ(got.rows, (std::vector<i32>{2, 5, 7, 2147483647}));
    EXPECT_EQ(got.local, c.rank() == 0 ? (std::vector<i32>{2, -1, 0, 2})
                                       : (std::vector<i32>{1, 3, 0}));
  });
}

TEST(RowUnion, NothingToAgreeOn) {
  run_as_threads(3, [](Communicator& c) {
    const RowUnion got = agree_rows(c, std::vector<i32>(static_cast<std::size_t>(c.rank()), -1));
    EXPECT_TRUE(got.rows.empty());
    EXPECT_EQ(got.local, std::vector<i32>(static_cast<std::size_t>(c.rank()), -1));
  });
}

}  // namespace
}  // namespace cohort
