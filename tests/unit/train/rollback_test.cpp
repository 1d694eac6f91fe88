#include "train/rollback.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "memory_files.h"
#include "train/checkpoint.h"

namespace cohort {
namespace {

using nlohmann::json;

const std::string kFolder = "run/checkpoints", kList = "run/rollbacks.jsonl";

void save_to(Files& files, const std::string& path, const json& state, float value = 1) {
  files.make_folder(parent_of(path));
  save_checkpoint(files, path, {{"a.weight", View{&value, DType::f32, {1}}}}, state);
}

class RollbackTest : public testing::Test {
 protected:
  RollbackTest() { files.make_folder(kFolder); }
  void save(i64 step, const json& state, const std::string& folder = kFolder) {
    save_to(files, folder + "/" + checkpoint_name(step), state, value);
  }
  std::vector<i64> steps() { return checkpoint_steps(files, kFolder); }

  MemoryFiles files;
  float value = 1;
};

TEST_F(RollbackTest, TheListReadsBackAsWritten) {
  EXPECT_TRUE(read_rollbacks(files, kList).empty());
  add_rollback(files, kList, {1, 22, 24, 20, 0.5, 3});
  add_rollback(files, kList, {2, 49, 51, 40, 0.1, 6});
  const std::vector<Rollback> all = read_rollbacks(files, kList);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].to, 20);
  EXPECT_EQ(all[1].attempt, 2);
  EXPECT_EQ(all[1].first_skipped, 49);
  EXPECT_EQ(all[1].last_skipped, 51);
  EXPECT_EQ(all[1].learning_rate_factor, 0.1);
  EXPECT_EQ(all[1].skipped_steps, 6);
  files.append(kList)->write("{\"attempt\":1}\n", 14);
  EXPECT_THROW(read_rollbacks(files, kList), Error);
}

TEST_F(RollbackTest, AGoodOneIsValidFiniteAndNotAmidSkippedSteps) {
  EXPECT_FALSE(good_checkpoint(files, {kFolder}, 100));
  save(10, {{"skipped_in_row", 0}});
  save(20, json::object());   // of a version that did not say
  save(30, {{"skipped_in_row", 2}});
  value = std::numeric_limits<float>::infinity();
  save(40, {{"skipped_in_row", 0}});
  value = 1;
  save(50, {{"skipped_in_row", 0}});
  save(60, {{"skipped_in_row", 0}});
  EXPECT_EQ(good_checkpoint(files, {kFolder}, 61), 60);
  EXPECT_EQ(good_checkpoint(files, {kFolder}, 60), 50);
  EXPECT_EQ(good_checkpoint(files, {kFolder}, 50), 20);
  files.flip(kFolder + "/" + checkpoint_name(20) + "/state.json", 0);
  EXPECT_EQ(good_checkpoint(files, {kFolder}, 50), 10);
  EXPECT_FALSE(good_checkpoint(files, {kFolder}, 10));
  save(45, json::object(), "second");
  EXPECT_EQ(good_checkpoint(files, {kFolder, "second"}, 50), 45);
}

TEST_F(RollbackTest, OnlyWhatWasWrittenBeforeItIsLeftBehind) {
  save(20, {{"rollbacks", 0}});
  save(30, {{"rollbacks", 0}});
  save(40, {{"rollbacks", 1}});
  save(50, {{"rollbacks", 2}});
  std::vector<Rollback> all = {{1, 32, 34, 20, 0.5, 3}};
  remove_left_behind(files, {kFolder, "absent"}, all);
  EXPECT_EQ(steps(), (std::vector<i64>{20, 40, 50}));
  // The first went further back than the second: what lies between them is of the first's history.
  all.push_back({1, 44, 46, 30, 0.25, 6});
  save(25, {{"rollbacks", 1}});
  remove_left_behind(files, {kFolder}, all);
  EXPECT_EQ(steps(), (std::vector<i64>{20, 25, 50}));
  remove_left_behind(files, {kFolder}, {});
  EXPECT_EQ(steps(), (std::vector<i64>{20, 25, 50}));
}

TEST_F(RollbackTest, WhatIsRecordedHoldsForOlderStates) {
  const std::vector<Rollback> all = {{1, 32, 34, 20, 0.5, 3}, {1, 44, 46, 20, 0.25, 6}};
  json old = {{"rollbacks", 1}, {"learning_rate_factor", 0.5}, {"skipped_steps", 3}};
  count_rollbacks(old, all);
  EXPECT_EQ(old, json({{"rollbacks", 2}, {"learning_rate_factor", 0.25}, {"skipped_steps", 6}}));
  json since = {{"rollbacks", 2}, {"learning_rate_factor", 0.25}, {"skipped_steps", 9}};
  const json before = since;
  count_rollbacks(since, all);
  EXPECT_EQ(since, before);
  json none = json::object();
  count_rollbacks(none, {});
  EXPECT_EQ(none, json::object());
}

// Wherever the process is killed in a rollback: it did not happen, or it is ended by who goes on.
TEST(Rollback, AKillLeavesAllOfItOrNone) {
  for (i64 at = 0;; ++at) {
    MemoryFiles files;
    for (const i64 step : {20, 30, 40})
      save_to(files, kFolder + "/" + checkpoint_name(step), {{"rollbacks", 0}});
    files.make_durable();
    const Rollback rollback{1, 32, 34, 20, 0.5, 3};
    files.arm(Fault::crash, at);
    bool ended = false;
    try {
      add_rollback(files, kList, rollback);
      remove_left_behind(files, {kFolder}, {rollback});
      ended = files.operations <= at;
    } catch (const Error&) {
    }
    files.reboot();
    const std::vector<Rollback> known = read_rollbacks(files, kList);
    remove_left_behind(files, {kFolder}, known);
    const auto newest = load_newest(files, kFolder);
    ASSERT_TRUE(newest) << at;
    EXPECT_EQ(newest->path, kFolder + "/" + checkpoint_name(known.empty() ? 40 : 20)) << at;
    if (ended) break;
    ASSERT_LT(at, 100);
  }
}

}  // namespace
}  // namespace cohort
