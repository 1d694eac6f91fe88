#include <gtest/gtest.h>

#include "base/hash.h"
#include "fake_shard_set.h"

namespace cohort {
namespace {

// What the ledger of a whole epoch must say, from the row ids alone.
std::vector<Ledger::Line> expected_lines(const FakeShardSet& shards) {
  std::vector<Ledger::Line> lines(shards.shards().size());
  for (i64 g = 0; g < shards.total(); ++g) {
    Ledger::Line& line = lines[static_cast<std::size_t>(shards.shard_of(g))];
    const i64 id = FakeShardSet::id_of(g);
    ++line.used;
    line.sum += hash_bytes(&id, sizeof(id));
  }
  return lines;
}

std::vector<Ledger::Line> epoch_lines(const std::shared_ptr<FakeShardSet>& shards, int world,
                                      i64 epoch) {
  const i64 count = static_cast<i64>(shards->shards().size());
  Ledger sum(count);
  for (int rank = 0; rank < world; ++rank) {
    Ledger mine(count);
    Loader loader(fake_loader(shards, 24, rank, world), epoch, 0);
    for (i64 step = 0; step < loader.steps_per_epoch(); ++step) mine.add(loader.next());
    for (std::size_t s = 0; s < sum.lines().size(); ++s) {
      sum.lines()[s].used += mine.lines()[s].used;
      sum.lines()[s].sum += mine.lines()[s].sum;
    }
  }
  return sum.lines();
}

TEST(Ledger, ExactlyOncePerEpochOnAnyRankCount) {
  // The last step holds 24, 1 and 13 rows.
  for (const auto& rows : {std::vector<i64>{40, 8}, {50, 23}, {31, 1, 5, 24}}) {
    const auto shards = std::make_shared<FakeShardSet>(rows, 9);
    const auto expected = expected_lines(*shards);
    for (int world : {1, 2, 3, 5, 7}) {
      for (i64 epoch : {0, 1, 6}) {
        const auto lines = epoch_lines(shards, world, epoch);
        for (std::size_t s = 0; s < lines.size(); ++s) {
          EXPECT_EQ(lines[s].used, rows[s]) << world << " ranks, shard " << s;
          EXPECT_EQ(lines[s].sum, expected[s].sum) << world << " ranks, shard " << s;
          EXPECT_EQ(lines[s].skipped, 0);
        }
      }
    }
  }
}

TEST(Ledger, SumsTellALostFromADoubledRow) {
  Batch batch;
  batch.valid = 2;
  batch.row_ids = {5, 9, -1};
  batch.blocks = {0, 1, -1};
  Ledger ledger(2);
  ledger.add(batch);
  const i64 five = 5, nine = 9;
  EXPECT_EQ(ledger.lines()[0].used, 1);
  EXPECT_EQ(ledger.lines()[0].sum, hash_bytes(&five, sizeof(five)));
  EXPECT_EQ(ledger.lines()[1].sum, hash_bytes(&nine, sizeof(nine)));
  batch.blocks = {1, 1, -1};
  ledger.add(batch);
  EXPECT_EQ(ledger.lines()[0].used, 1);
  EXPECT_EQ(ledger.lines()[1].used, 3);
  EXPECT_EQ(ledger.lines()[1].sum,
            2 * hash_bytes(&nine, sizeof(nine)) + hash_bytes(&five, sizeof(five)));
}

}  // namespace
}  // namespace cohort
