// The feed on ranks as threads: the batches of the loader, the rows agreed on, and its ends.
#include "train/feed.h"

#include <gtest/gtest.h>

#include "../data/fake_shard_set.h"

namespace cohort {
namespace {

constexpr i64 batch = 13, words = 1;  // the column of words

Feed::Options options(std::shared_ptr<ShardSet> shards, const Communicator& c, i64 total) {
  return {fake_loader(std::move(shards), batch, c.rank(), c.size()), 0, 0, total, {words}};
}

std::vector<i32> ids_of(const Batch& from) {
  const std::vector<u8>& bytes = from.columns[words].data;
  std::vector<i32> ids(bytes.size() / 4);
  std::memcpy(ids.data(), bytes.data(), ids.size() * 4);
  return ids;
}

TEST(Feed, EveryRankHasTheSameRowsAndItsOwnSlots) {
  for (int world : {1, 2, 3}) {
    const auto shards = std::make_shared<FakeShardSet>(std::vector<i64>{29, 40}, 5);
    std::vector<std::vector<std::vector<i32>>> rows(static_cast<std::size_t>(world));
    run_as_threads(world, [&](Communicator& c) {
      Feed feed(options(shards, c, 12), c.duplicate());
      for (i64 step = 0; step < 12; ++step) {
        const FeedItem item = feed.next();
        const SparseRows& sparse = item.sparse.at(0);
        const std::vector<i32> ids = ids_of(item.batch);
        COHORT_CHECK(sparse.slots.size() == ids.size(), "a slot for every id");
        for (std::size_t i = 0; i < ids.size(); ++i) {
          const i32 slot = sparse.slots[i];
          COHORT_CHECK((slot < 0) == (ids[i] < 0), "padding has no slot");
          COHORT_CHECK(slot < 0 || sparse.rows.at(static_cast<std::size_t>(slot)) == ids[i], "slot");
        }
        rows[static_cast<std::size_t>(c.rank())].push_back(sparse.rows);
      }
    });
    for (const auto& mine : rows) EXPECT_EQ(mine, rows[0]) << world << " ranks";
    EXPECT_GT(rows[0][0].size(), 1u);
  }
}

TEST(Feed, RanksLeaveEarlyTogether) {
  const auto shards = std::make_shared<FakeShardSet>(std::vector<i64>{50}, 4);
  for (i64 taken : {0, 1, 5}) {
    run_as_threads(3, [&](Communicator& c) {
      Feed feed(options(shards, c, 1000), c.duplicate());
      for (i64 i = 0; i < taken; ++i) feed.next();
    });
  }
}

TEST(Feed, ABadRowIsThrownByNext) {
  const auto shards = std::make_shared<FakeShardSet>(std::vector<i64>{50}, 4);
  shards->spoil(21, 50);  // ids end at 49; its six words are all read
  run_as_threads(1, [&](Communicator& c) {
    Feed feed(options(shards, c, 1000), c.duplicate());
    bool thrown = false;
    for (i64 i = 0; i < 8 && !thrown; ++i) {
      try {
        feed.next();
      } catch (const Error& e) {
        thrown = true;
        EXPECT_EQ(e.exit_code(), Exit::data);
      }
    }
    EXPECT_TRUE(thrown);
  });
}

}  // namespace
}  // namespace cohort
