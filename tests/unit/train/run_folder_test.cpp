#include "train/run_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "memory_files.h"

namespace cohort {
namespace {

TEST(RunFolder, ExistingIsRefusedUnlessAskedFor) {
  MemoryFiles files;
  const RunFolder first = RunFolder::open(files, "runs", "a", RunMode::fresh);
  EXPECT_EQ(first.path(), "runs/a");
  EXPECT_EQ(first.attempt(), 1);
  try {
    RunFolder::open(files, "runs", "a", RunMode::fresh);
    FAIL() << "an existing folder was taken";
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), Exit::usage);
    EXPECT_THAT(e.what(), ::testing::HasSubstr("--resume"));
  }
  EXPECT_EQ(RunFolder::open(files, "runs", "a", RunMode::another).path(), "runs/a-2");
  EXPECT_EQ(RunFolder::open(files, "runs", "a", RunMode::another).path(), "runs/a-3");
  EXPECT_THROW(RunFolder::open(files, "runs", "../a", RunMode::fresh), Error);
}

TEST(RunFolder, OnlyTheNewestAttemptMayWrite) {
  MemoryFiles files;
  const RunFolder first = RunFolder::open(files, "runs", "a", RunMode::fresh);
  EXPECT_TRUE(first.still_newest());
  const RunFolder second = RunFolder::open(files, "runs", "a", RunMode::resume);
  EXPECT_EQ(second.attempt(), 2);
  EXPECT_FALSE(first.still_newest());
  EXPECT_TRUE(second.still_newest());
  EXPECT_TRUE(RunFolder::join(files, second.path(), 2).still_newest());
  EXPECT_EQ(second.log_path(7), "runs/a/logs/rank-0007.log");
}

TEST(RunFolder, TheSecondPlaceOfARunIsItsOwn) {
  MemoryFiles files;
  const RunFolder one = RunFolder::open(files, "runs", "a", RunMode::fresh);
  const RunFolder other = RunFolder::open(files, "others", "a", RunMode::fresh);
  const auto folders = one.checkpoint_folders("second");
  ASSERT_EQ(folders.size(), 2u);
  EXPECT_EQ(folders[0], "runs/a/checkpoints");
  EXPECT_THAT(folders[1], ::testing::MatchesRegex("second/a-[0-9a-f]+/checkpoints"));
  EXPECT_NE(other.checkpoint_folders("second")[1], folders[1]);
  const RunFolder resumed = RunFolder::open(files, "runs", "a", RunMode::resume);
  EXPECT_EQ(resumed.checkpoint_folders("second"), folders);
  EXPECT_EQ(resumed.checkpoint_folders("").size(), 1u);
  files.remove("runs/a");
  const RunFolder again = RunFolder::open(files, "runs", "a", RunMode::fresh);
  EXPECT_NE(again.checkpoint_folders("second")[1], folders[1]);
  for (const char* text : {"", "\n", "../b\n", "..\n", "a", "a\nb\n"}) {
    write_atomically(files, "runs/a/id", text);
    EXPECT_THROW(again.checkpoint_folders("second"), Error) << text;
  }
}

TEST(RunFolder, RunJsonKeepsEveryAttempt) {
  MemoryFiles files;
  RunFacts facts;
  facts.build = "b";
  facts.ranks = 2;
  facts.hosts = {"x", "y"};
  const RunFolder first = RunFolder::open(files, "runs", "a", RunMode::fresh);
  first.begin(facts);
  const RunFolder second = RunFolder::open(files, "runs", "a", RunMode::resume);
  second.begin(facts);
  first.finish("done", 0);   // too late: it is not the newest
  second.finish("stopped", 75);
  const auto info = nlohmann::json::parse(files.read("runs/a/run.json"));
  EXPECT_EQ(info["outcome"], "stopped");
  ASSERT_EQ(info["attempts"].size(), 2u);
  EXPECT_EQ(info["attempts"][0]["outcome"], "running");
  EXPECT_EQ(info["attempts"][1]["exit_code"], 75);
  EXPECT_EQ(info["hosts"][1], "y");
}

}  // namespace
}  // namespace cohort
