#include "comm/blame.h"

#include <gmock/gmock.h>

#include "comm/rank_table.h"

namespace cohort {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

RankView view(int rank, Phase phase, bool waiting, double idle) {
  RankView v;
  v.name = "rank " + std::to_string(rank) + " (host h" + std::to_string(rank) + ", pid 7)";
  v.beat.step = 41;
  v.beat.phase = phase;
  v.beat.waiting = waiting;
  v.beat.idle = idle;
  v.beat.device = "cpu";
  return v;
}

std::vector<RankView> waiting_ranks(double idle) {
  std::vector<RankView> ranks;
  for (int r = 0; r < 4; ++r) ranks.push_back(view(r, Phase::compute, true, idle));
  return ranks;
}

TEST(Late, NobodyInTime) {
  EXPECT_FALSE(find_late(waiting_ranks(59), 60, 10));
  EXPECT_FALSE(find_late(waiting_ranks(1e6), 0, 10)) << "0: never";
  EXPECT_TRUE(find_late(waiting_ranks(61), 60, 10));
}

TEST(Late, TheSilentRankIsNamed) {
  auto ranks = waiting_ranks(61);
  ranks[2].age = 60;
  ranks[2].beat.idle = 1;
  ranks[1].beat.waiting = false;   // busy, too, but it speaks
  const auto late = find_late(ranks, 60, 10);
  ASSERT_TRUE(late);
  EXPECT_THAT(late->text, AllOf(HasSubstr("step 42 was not done in 1 m 01 s"),
                           HasSubstr("rank 2 (host h2, pid 7, cpu) has said nothing for"),
                           HasSubstr("stopped or its host hangs"), HasSubstr("2 of 4 ranks wait")));
  EXPECT_EQ(late->cause, Exit::lost);
}

TEST(Late, TheRankThatDoesNotWaitIsNamedWithItsFile) {
  auto ranks = waiting_ranks(61);
  ranks[3].beat.waiting = false;
  ranks[3].beat.phase = Phase::rows;
  ranks[3].beat.file = "train-012.h5";
  ranks[3].beat.open_read = 62;
  const auto late = find_late(ranks, 60, 10);
  ASSERT_TRUE(late);
  EXPECT_THAT(late->text, AllOf(HasSubstr("rank 3 (host h3"), HasSubstr("reading train-012.h5 for"),
                           HasSubstr("3 of 4 ranks wait")));
  EXPECT_EQ(late->cause, Exit::storage);
  ranks[3].beat.open_read = 3;   // one of many reads
  EXPECT_EQ(find_late(ranks, 60, 10)->cause, Exit::lost);
}

TEST(Late, AmongBusyRanksTheOneBehindIsNamed) {
  auto ranks = waiting_ranks(61);
  for (RankView& r : ranks) r.beat.waiting = false;
  ranks[1].beat.step = 40;
  EXPECT_THAT(find_late(ranks, 60, 10)->text, HasSubstr("step 41 was not done"));
  EXPECT_THAT(find_late(ranks, 60, 10)->text, HasSubstr("rank 1 "));
}

TEST(Late, ARankThatWaitsForItsDeviceComesAfterOneThatComputes) {
  auto ranks = waiting_ranks(61);
  for (RankView& r : ranks) {
    r.beat.waiting = false;
    r.beat.phase = Phase::device;
  }
  ranks[2].beat.phase = Phase::rows;
  EXPECT_THAT(find_late(ranks, 60, 10)->text, HasSubstr("rank 2 "));
}

TEST(Late, AllWaiting) {
  EXPECT_THAT(find_late(waiting_ranks(61), 60, 10)->text, HasSubstr("all ranks wait for each other"));
}

TEST(Late, ACheckpointMayTakeLongerButNotForEver) {
  auto ranks = waiting_ranks(61);
  for (RankView& r : ranks) r.beat.phase = Phase::checkpoint;
  ranks[0].beat.waiting = false;
  EXPECT_FALSE(find_late(ranks, 60, 10));
  for (RankView& r : ranks) r.beat.idle = 601;
  EXPECT_THAT(find_late(ranks, 60, 10)->text, AllOf(HasSubstr("rank 0 "), HasSubstr("checkpoint")));
  EXPECT_EQ(find_late(ranks, 60, 10)->cause, Exit::storage);
  for (RankView& r : ranks) r.beat.waiting = true;   // on their way to it
  EXPECT_EQ(find_late(ranks, 60, 10)->cause, Exit::lost);
}

TEST(Late, OthersWaitForARankThatStillStarts) {
  auto ranks = waiting_ranks(61);
  ranks[1].beat.phase = Phase::start;
  ranks[1].beat.waiting = false;
  EXPECT_FALSE(find_late(ranks, 60, 10));
  ranks[1].age = 11;   // it has stopped to speak
  EXPECT_THAT(find_late(ranks, 60, 10)->text, HasSubstr("rank 1 "));
}

TEST(Late, ARankThatLeftIsNotMissed) {
  auto ranks = waiting_ranks(61);
  for (RankView& r : ranks) r.gone = true;
  EXPECT_FALSE(find_late(ranks, 60, 10));
}

TEST(Slow, ARankThatWritesMetricsOnSlowStorage) {
  std::vector<RankWindow> ranks;
  for (int r = 0; r < 3; ++r) {
    ranks.push_back({"rank " + std::to_string(r) + " (host b)", 10, 0, r == 0 ? 0.0 : 15.0, ""});
    ranks.back().records = r == 0 ? 15 : 0;
  }
  const auto slow = find_slow(ranks);
  ASSERT_TRUE(slow);
  EXPECT_EQ(slow->rank, 0u);
  EXPECT_THAT(slow->text, HasSubstr("2.5x slower than the median of the other ranks, 60 % of it in "
                                    "writing metrics"));
}

RankWindow window(int rank, double compute, double reading, double waited) {
  return {"rank " + std::to_string(rank) + " (host b)", compute, reading, waited, "train-012.h5"};
}

TEST(Slow, EqualRanksAreNotBlamed) {
  EXPECT_FALSE(find_slow({}));
  EXPECT_FALSE(find_slow({window(0, 10, 0, 0)}));
  EXPECT_FALSE(find_slow({window(0, 10, 1, 5), window(1, 12, 1, 3), window(2, 13, 1, 2)}));
  EXPECT_FALSE(find_slow({window(0, 0, 0, 10), window(1, 0, 0, 10)}));
}

// The hosts enqueue and wait; of each GPU its own work.
std::vector<RankWindow> gpus(const std::vector<double>& work) {
  std::vector<RankWindow> ranks;
  for (const double seconds : work) {
    ranks.push_back(window(static_cast<int>(ranks.size()), 2, 0, 0));
    ranks.back().device_wait = 28;
    ranks.back().device_work = seconds;
  }
  return ranks;
}

TEST(Slow, ASlowGpuIsNamedThoughItsHostOnlyWaitsAsTheOthers) {
  EXPECT_FALSE(find_slow(gpus({20, 22, 24})));
  const auto slow = find_slow(gpus({10, 29, 10}));
  ASSERT_TRUE(slow);
  EXPECT_EQ(slow->rank, 1U);
  EXPECT_THAT(slow->text, HasSubstr("rank 1 (host b) is 2.9x slower than the median of the other "
                                    "ranks, computing on its GPU"));
}

TEST(Slow, GpusThatAreMostlyIdleAreNotBlamed) {
  EXPECT_FALSE(find_slow(gpus({1, 3, 1}))) << "7 % of the window longer";
}

TEST(Slow, ASlowReaderIsNamedBeforeEqualGpus) {
  auto ranks = gpus({10, 10, 10});
  ranks[2].reading = 28;
  ranks[2].device_wait = 0;
  const auto slow = find_slow(ranks);
  ASSERT_TRUE(slow);
  EXPECT_EQ(slow->rank, 2U);
  EXPECT_THAT(slow->text, HasSubstr("93 % of it in reading train-012.h5"));
}

TEST(Slow, ASlowReader) {
  const auto slow = find_slow({window(0, 5, 1, 9), window(1, 5, 1, 9), window(2, 5, 1, 9),
                               window(3, 2.6, 11.2, 1)});
  ASSERT_TRUE(slow);
  EXPECT_EQ(slow->rank, 3u);
  EXPECT_EQ(slow->text, "rank 3 (host b) is 2.3x slower than the median of the other ranks, 81 % of "
                        "it in reading train-012.h5");
}

TEST(Slow, OfTwoRanksTheSlowOne) {
  const auto slow = find_slow({window(0, 10, 0, 20), window(1, 30, 0, 0)});
  ASSERT_TRUE(slow);
  EXPECT_THAT(slow->text, AllOf(HasSubstr("rank 1 "), HasSubstr("3.0x"),
                                HasSubstr("100 % of it in computing")));
}

TEST(Slow, WhatIsNotMaterialIsNotTold) {
  EXPECT_FALSE(find_slow({window(0, 1, 0, 29), window(1, 2, 0, 28)})) << "3 % of the window";
}

TEST(Slow, NothingToCompareWith) {
  const auto slow = find_slow({window(0, 0, 0, 30), window(1, 30, 0, 0)});
  ASSERT_TRUE(slow);
  EXPECT_THAT(slow->text, HasSubstr("over 100x"));
}

TEST(Slow, ExposedShareIsThatOfTheBusiest) {
  EXPECT_DOUBLE_EQ(exposed_share({window(0, 10, 0, 30), window(1, 20, 0, 20)}), 0.5);
  EXPECT_DOUBLE_EQ(exposed_share({}), 0);
}

TEST(SlowLink, HostsAreCompared) {
  EXPECT_EQ(find_slow_link("a", {}), "");
  EXPECT_EQ(find_slow_link("a", {{"b", 0.005}, {"c", 0.2}, {"d", 0.004}}), "c");
  EXPECT_EQ(find_slow_link("a", {{"b", 0.005}, {"c", 0.04}, {"d", 0.004}}), "") << "fast enough";
  EXPECT_EQ(find_slow_link("a", {{"b", 0.1}, {"c", 0.2}, {"d", 0.1}}), "");
}

TEST(SlowLink, WhereAllAreSlowItIsRankZeros) {
  EXPECT_EQ(find_slow_link("a", {{"b", 2}, {"c", 2.1}}), "a");
  EXPECT_EQ(find_slow_link("a", {{"b", 2}}), "b or a") << "a link has two ends";
  EXPECT_EQ(find_slow_link("a", {{"b", 0.1}}), "");
}

Beat beat(i64 step, double compute, double waited, const std::string& file, double file_seconds) {
  Beat b;
  b.step = step;
  b.compute = compute;
  b.waited = waited;
  b.file = file;
  b.file_seconds = file_seconds;
  return b;
}

TEST(RankTable, WindowsAreDifferences) {
  RankTable table({"host a, pid 1", "host b, pid 2"}, {"a", "b"}, 0);
  for (std::size_t r : {0u, 1u}) table.heard(r, beat(10, 5, 1, "x.h5", 1), 1);
  EXPECT_EQ(table.end_window().size(), 2u);
  EXPECT_TRUE(table.end_window().empty()) << "no step was done";
  table.heard(0, beat(20, 8, 2, "y.h5", 2), 2);
  table.heard(1, beat(20, 6, 5, "y.h5", 2), 2);
  table.heard(0, beat(21, 9, 2, "z.h5", 1), 3);
  const auto windows = table.end_window();
  ASSERT_EQ(windows.size(), 2u);
  EXPECT_EQ(windows[0].name, "rank 0 (host a)");
  EXPECT_DOUBLE_EQ(windows[0].compute, 4);
  EXPECT_DOUBLE_EQ(windows[1].waited, 4);
  EXPECT_EQ(windows[0].file, "y.h5");
  table.left(1);
  EXPECT_TRUE(table.end_window().empty());
}

TEST(RankTable, ASilentRankIsLate) {
  RankTable table({"host a, pid 1", "host b, pid 2"}, {"a", "b"}, 0);
  Beat waits = beat(10, 0, 0, "", 0);
  waits.phase = Phase::compute;
  waits.waiting = true;
  table.heard(1, waits, 1);
  waits.idle = 60;
  table.heard(0, waits, 61);
  EXPECT_FALSE(table.late(61, 10, 61.5));
  const auto late = table.late(60, 10, 61.5);
  ASSERT_TRUE(late);
  EXPECT_THAT(late->text, HasSubstr("rank 1 (host b, pid 2) has said nothing"));
  EXPECT_TRUE(table.silent(1, 10, 61.5));
  EXPECT_FALSE(table.silent(0, 10, 61.5));
  EXPECT_THAT(table.text(), HasSubstr("\n  rank 0 (host a, pid 1): step 11, computing"));
}

TEST(Beats, GoThroughBytes) {
  Beat b = beat(7, 1.5, 2.5, "a\xff.h5", 0.5);
  b.phase = Phase::device;
  b.waiting = true;
  b.bucket = 3;
  b.idle = 9;
  b.reading = 4;
  b.open_read = 8;
  b.device = "cuda";
  b.device_wait = 11;
  b.device_work = 12;
  b.records = 13;
  const auto back = decode(encode(b));
  ASSERT_TRUE(back);
  EXPECT_EQ(describe(*back).substr(0, 40), describe(b).substr(0, 40));
  EXPECT_EQ(back->step, 7);
  EXPECT_EQ(back->phase, Phase::device);
  EXPECT_TRUE(back->waiting);
  EXPECT_EQ(back->bucket, 3);
  EXPECT_DOUBLE_EQ(back->idle, 9);
  EXPECT_DOUBLE_EQ(back->compute, 1.5);
  EXPECT_DOUBLE_EQ(back->reading, 4);
  EXPECT_DOUBLE_EQ(back->waited, 2.5);
  EXPECT_DOUBLE_EQ(back->open_read, 8);
  EXPECT_DOUBLE_EQ(back->file_seconds, 0.5);
  EXPECT_EQ(back->device, "cuda");
  EXPECT_DOUBLE_EQ(back->device_wait, 11);
  EXPECT_DOUBLE_EQ(back->device_work, 12);
  EXPECT_DOUBLE_EQ(back->records, 13);
  for (const char* bad : {"", "{}", "[1]", "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]", "nonsense"})
    EXPECT_FALSE(decode(bad)) << bad;
}

TEST(Describe, SaysWhatARankDoes) {
  Beat b;
  b.step = 41;
  b.phase = Phase::compute;
  b.waiting = true;
  b.bucket = 3;
  EXPECT_EQ(describe(b), "step 42, computing, waiting for other ranks, bucket 3");
  b.phase = Phase::rows;
  b.waiting = false;
  b.file = "train-000.h5";
  EXPECT_EQ(describe(b), "step 42, waiting for rows");
  b.open_read = 12;
  EXPECT_THAT(describe(b), HasSubstr("waiting for rows, reading train-000.h5 for 12"));
  EXPECT_THAT(describe(b), Not(HasSubstr("bucket")));
}

}  // namespace
}  // namespace cohort
