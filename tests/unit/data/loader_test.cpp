#include "data/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <thread>

#include "data/eval_reader.h"
#include "fake_shard_set.h"

namespace cohort {
namespace {

template <class T>
T value_at(const BatchColumn& column, std::size_t index) {
  T value;
  EXPECT_LE((index + 1) * sizeof(T), column.data.size());
  std::memcpy(&value, column.data.data() + index * sizeof(T), sizeof(T));
  return value;
}

// Every value of a slot against what row g holds, cut to its last elements.
void expect_row(const Batch& batch, std::size_t slot, i64 g) {
  for (std::size_t c = 0; c < 3; ++c) {
    const float x = static_cast<float>(g);
    const float expected[] = {x, x + 0.25f, -x};
    EXPECT_EQ(value_at<float>(batch.columns[0], slot * 3 + c), expected[c]);
  }
  const i64 words = FakeShardSet::words_of(g), kept = std::min<i64>(words, 6);
  ASSERT_EQ(batch.columns[1].lengths[slot], kept);
  for (i64 t = 0; t < 6; ++t) {
    const i64 expected = t < kept ? (g + words - kept + t) % 50 : -1;
    EXPECT_EQ(value_at<i32>(batch.columns[1], slot * 6 + static_cast<std::size_t>(t)), expected)
        << "row " << g << " word " << t;
  }
  const i64 steps = FakeShardSet::steps_of(g), left = std::min<i64>(steps, 3);
  ASSERT_EQ(batch.columns[2].lengths[slot], left);
  for (i64 t = 0; t < 3; ++t) {
    const std::size_t at = (slot * 3 + static_cast<std::size_t>(t)) * 2;
    EXPECT_EQ(value_at<float>(batch.columns[2], at), t < left ? static_cast<float>(g) : 0.0f);
    EXPECT_EQ(value_at<float>(batch.columns[2], at + 1),
              t < left ? static_cast<float>(steps - left + t) : 0.0f);
  }
  EXPECT_EQ(value_at<u8>(batch.columns[3], slot), g % 10);
}

void expect_padding(const Batch& batch, std::size_t slot) {
  EXPECT_EQ(batch.row_ids[slot], -1);
  EXPECT_EQ(batch.blocks[slot], -1);
  for (std::size_t c = 0; c < 3; ++c) EXPECT_EQ(value_at<float>(batch.columns[0], slot * 3 + c), 0);
  for (std::size_t t = 0; t < 6; ++t) EXPECT_EQ(value_at<i32>(batch.columns[1], slot * 6 + t), -1);
  for (std::size_t t = 0; t < 6; ++t) EXPECT_EQ(value_at<float>(batch.columns[2], slot * 6 + t), 0);
  EXPECT_EQ(batch.columns[1].lengths[slot], 0);
  EXPECT_EQ(batch.columns[2].lengths[slot], 0);
  EXPECT_EQ(value_at<u8>(batch.columns[3], slot), 0);
}

void expect_same(const Batch& a, const Batch& b) {
  EXPECT_EQ(a.epoch, b.epoch);
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.valid, b.valid);
  EXPECT_EQ(a.row_ids, b.row_ids);
  EXPECT_EQ(a.positions, b.positions);
  EXPECT_EQ(a.blocks, b.blocks);
  ASSERT_EQ(a.columns.size(), b.columns.size());
  for (std::size_t i = 0; i < a.columns.size(); ++i) {
    EXPECT_EQ(a.columns[i].data, b.columns[i].data);
    EXPECT_EQ(a.columns[i].lengths, b.columns[i].lengths);
  }
}

std::string error_of(const std::function<void()>& call, Exit expected) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), expected) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST(Loader, ValidRowsFirstThenPadding) {
  const auto shards = std::make_shared<FakeShardSet>(std::vector<i64>{23, 1, 37}, 9);
  LoaderConfig config = fake_loader(shards, 16, 0, 1);
  config.capacity = 19;
  Loader loader(config, 0, 0);
  ASSERT_EQ(loader.steps_per_epoch(), 4);
  std::map<i64, int> seen;
  for (i64 step = 0; step < 4; ++step) {
    const Batch& batch = loader.next();
    EXPECT_EQ(batch.epoch, 0);
    EXPECT_EQ(batch.step, step);
    ASSERT_EQ(batch.capacity, 19);
    ASSERT_EQ(batch.valid, step < 3 ? 16 : 61 - 48);
    std::vector<i32> positions(batch.positions.begin(), batch.positions.begin() + 16);
    std::sort(positions.begin(), positions.end());
    for (i32 p = 0; p < 16; ++p) EXPECT_EQ(positions[static_cast<std::size_t>(p)], p);
    for (std::size_t slot = 0; slot < 19; ++slot) {
      if (static_cast<i64>(slot) >= batch.valid) {
        expect_padding(batch, slot);
        continue;
      }
      const i64 g = FakeShardSet::row_of(batch.row_ids[slot]);
      ASSERT_EQ(FakeShardSet::id_of(g), batch.row_ids[slot]);
      EXPECT_EQ(batch.blocks[slot], shards->shard_of(g));
      expect_row(batch, slot, g);
      ++seen[g];
    }
  }
  ASSERT_EQ(seen.size(), 61u);
  for (const auto& [g, times] : seen) EXPECT_EQ(times, 1) << "row " << g;
  EXPECT_EQ(loader.next().epoch, 1);
}

TEST(Loader, EpochsDifferInOrder) {
  const auto shards = std::make_shared<FakeShardSet>(std::vector<i64>{40, 40}, 7);
  Loader loader(fake_loader(shards, 80, 0, 1), 0, 0);
  const std::vector<i64> first = loader.next().row_ids;
  const std::vector<i64> second = loader.next().row_ids;
  EXPECT_NE(first, second);
  EXPECT_THAT(second, testing::UnorderedElementsAreArray(first));
}

TEST(Loader, ResumesAtAnyStep) {
  const auto shards = std::make_shared<FakeShardSet>(std::vector<i64>{29, 4, 18}, 5);
  for (int rank = 0; rank < 3; ++rank) {
    const LoaderConfig config = fake_loader(shards, 10, rank, 3);
    std::vector<Batch> all;
    Loader whole(config, 0, 0);
    const i64 steps = whole.steps_per_epoch();
    ASSERT_EQ(steps, 6);
    for (i64 i = 0; i < 3 * steps; ++i) all.push_back(whole.next());
    for (i64 start = 0; start < 2 * steps; ++start) {
      LoaderConfig other = config;
      other.ahead = 1 + start % 4;
      Loader resumed(other, start / steps, start % steps);
      for (i64 i = start; i < start + steps + 1; ++i) {
        expect_same(resumed.next(), all[static_cast<std::size_t>(i)]);
      }
    }
  }
}

TEST(Loader, SameBatchesWhateverTheThreads) {
  const auto shards = std::make_shared<FakeShardSet>(std::vector<i64>{129, 4, 118}, 5);
  LoaderConfig config = fake_loader(shards, 10, 1, 2);
  config.lanes.window = 2;  // few blocks are cached: threads wait for each other's
  Loader one(config, 0, 3);
  std::vector<std::unique_ptr<Loader>> others;
  for (int threads : {2, 4, 7}) {
    config.threads = threads;
    config.ahead = threads % 3;
    others.push_back(std::make_unique<Loader>(config, 0, 3));
  }
  for (i64 i = 0; i < 4 * one.steps_per_epoch(); ++i) {
    const Batch& batch = one.next();
    for (const auto& other : others) expect_same(other->next(), batch);
  }
}

// What was read before the bad row is delivered first, by any number of threads.
TEST(Loader, ErrorComesInItsTurnWhateverTheThreads) {
  const auto shards = std::make_shared<FakeShardSet>(std::vector<i64>{129}, 5);
  shards->spoil(34, 50);
  std::vector<i64> good;
  for (int threads : {1, 2, 4, 7}) {
    LoaderConfig config = fake_loader(shards, 10, 0, 1);
    config.threads = threads;
    Loader loader(config, 0, 0);
    i64 batches = 0;
    const std::string text = error_of([&] { for (;; ++batches) loader.next(); }, Exit::data);
    EXPECT_THAT(text, testing::HasSubstr("train-0.h5:34"));
    good.push_back(batches);
  }
  EXPECT_THAT(good, testing::Each(good[0]));
  EXPECT_GT(good[0], 0);
}

TEST(Loader, BatchStaysWhileTheReaderRunsAhead) {
  const auto shards = std::make_shared<FakeShardSet>(std::vector<i64>{64}, 6);
  LoaderConfig config = fake_loader(shards, 8, 0, 1);
  config.ahead = 2;
  Loader loader(config, 0, 0);
  for (int i = 0; i < 20; ++i) {
    const Batch& held = loader.next();
    const Batch copy = held;
    for (int spin = 0; spin < 50; ++spin) std::this_thread::yield();
    expect_same(held, copy);
  }
}

TEST(Loader, IdOutOfRangeNamesShardAndRow) {
  for (i32 id : {50, -1, -2000000000}) {
    const auto shards = std::make_shared<FakeShardSet>(std::vector<i64>{20, 30}, 8);
    shards->spoil(20 + 13, id);  // 33 * 5 % 11 == 0 words would hide it
    ASSERT_EQ(FakeShardSet::words_of(33), 0);
    shards->spoil(20 + 14, id);
    ASSERT_EQ(FakeShardSet::words_of(34), 5);
    Loader loader(fake_loader(shards, 50, 0, 1), 0, 0);
    const std::string text = error_of([&] { loader.next(); }, Exit::data);
    EXPECT_THAT(text, testing::HasSubstr("train-1.h5:14"));
    EXPECT_THAT(text, testing::HasSubstr("'words'"));
    EXPECT_THAT(text, testing::HasSubstr(std::to_string(id)));
    EXPECT_THAT(text, testing::HasSubstr("[0, 50)"));
    EXPECT_EQ(error_of([&] { loader.next(); }, Exit::data), text);  // and again
  }
}

TEST(Loader, FieldsThatDoNotFitTheModel) {
  const auto shards = std::make_shared<FakeShardSet>(std::vector<i64>{20}, 8);
  LoaderConfig config = fake_loader(shards, 4, 0, 1);
  config.inputs[0].field = "word";
  EXPECT_THAT(error_of([&] { Loader(config, 0, 0); }, Exit::data), testing::HasSubstr("words"));
  config = fake_loader(shards, 4, 0, 1);
  config.inputs[0].dtype = DType::f64;
  EXPECT_THAT(error_of([&] { Loader(config, 0, 0); }, Exit::data), testing::HasSubstr("float64"));
  config = fake_loader(shards, 4, 0, 1);
  config.inputs[1].ragged = false;
  EXPECT_THAT(error_of([&] { Loader(config, 0, 0); }, Exit::data), testing::HasSubstr("ragged"));
  config = fake_loader(shards, 4, 0, 1);
  config.split = "no-such-split";
  EXPECT_THAT(error_of([&] { Loader(config, 0, 0); }, Exit::data),
              testing::HasSubstr("no-such-split"));
}

TEST(Loader, MoreRanksThanRows) {
  const auto shards = std::make_shared<FakeShardSet>(std::vector<i64>{2}, 8);
  i64 valid = 0;
  for (int rank = 0; rank < 7; ++rank) {
    Loader loader(fake_loader(shards, 5, rank, 7), 0, 0);
    ASSERT_EQ(loader.steps_per_epoch(), 1);
    valid += loader.next().valid;
  }
  EXPECT_EQ(valid, 2);
}

TEST(RowReader, EvaluationReadsInShardOrder) {
  const auto shards = std::make_shared<FakeShardSet>(std::vector<i64>{23, 1, 37}, 9);
  for (int world : {1, 2, 3, 5}) {
    std::vector<int> seen(61, 0);
    for (int rank = 0; rank < world; ++rank) {
      RowReader reader(shards, "train", fake_inputs(), 1);
      ASSERT_EQ(reader.rows(), 61);
      for (const EvalBlock& block : eval_blocks(reader.rows(), 14, rank, world)) {
        EXPECT_EQ(block.begin, block.index * 14);
        Batch batch;
        reader.read_rows(batch, block, 14);
        ASSERT_EQ(batch.valid, std::min<i64>(61, block.begin + 14) - block.begin);
        for (std::size_t slot = 0; slot < 14; ++slot) {
          const i64 g = block.begin + static_cast<i64>(slot);
          if (g >= 61) {
            expect_padding(batch, slot);
            continue;
          }
          ASSERT_EQ(batch.row_ids[slot], FakeShardSet::id_of(g));
          expect_row(batch, slot, g);
          ++seen[static_cast<std::size_t>(g)];
        }
      }
    }
    for (int times : seen) EXPECT_EQ(times, 1);
  }
}

}  // namespace
}  // namespace cohort
