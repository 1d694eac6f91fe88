#include "train/chaos.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "base/error.h"
#include "memory_files.h"

namespace cohort {
namespace {

using Kind = ChaosEvent::Kind;
using testing::HasSubstr;

std::string message(const std::string& text) {
  try {
    parse_chaos(text);
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), Exit::usage);
    return e.what();
  }
  return "";
}

TEST(ParseChaos, EveryEvent) {
  const auto events = parse_chaos(
      "kill-rank=2@step=500, slow-rank=1:3x,hang-rank=1@step=9,nan@step=7,nan=3@step=8,"
      "disk-full@checkpoint=3,corrupt-latest,slow-reads=0:2.5ms,kill-rank=0");
  ASSERT_EQ(events.size(), 9u);
  EXPECT_EQ(events[0].kind, Kind::kill_rank);
  EXPECT_EQ(events[0].rank, 2);
  EXPECT_EQ(events[0].step, 500);
  EXPECT_EQ(events[1].kind, Kind::slow_rank);
  EXPECT_EQ(events[1].text, "slow-rank=1:3x");
  EXPECT_DOUBLE_EQ(events[1].amount, 3);
  EXPECT_EQ(events[1].step, -1);
  EXPECT_EQ(events[2].kind, Kind::hang_rank);
  EXPECT_EQ(events[3].kind, Kind::nan);
  EXPECT_EQ(events[3].rank, 0);
  EXPECT_EQ(events[4].rank, 3);
  EXPECT_EQ(events[5].kind, Kind::disk_full);
  EXPECT_EQ(events[5].checkpoint, 3);
  EXPECT_EQ(events[6].kind, Kind::corrupt_latest);
  EXPECT_DOUBLE_EQ(events[7].amount, 0.0025);
}

TEST(ParseChaos, WhatIsWrongIsTold) {
  EXPECT_THAT(message(""), HasSubstr("expected kill-rank=R@step=N"));
  EXPECT_THAT(message("kil-rank=2"), HasSubstr("'kil-rank=2': did you mean 'kill-rank'?"));
  EXPECT_THAT(message("explode"), HasSubstr("no such event"));
  EXPECT_THAT(message("kill-rank@step=5"), HasSubstr("names no rank"));
  EXPECT_THAT(message("kill-rank=x@step=5"), HasSubstr("'x' is no rank of at least 0"));
  EXPECT_THAT(message("kill-rank=-1@step=5"), HasSubstr("'-1' is no rank"));
  EXPECT_THAT(message("kill-rank=1@step=0"), HasSubstr("'0' is no step of at least 1"));
  EXPECT_THAT(message("kill-rank=1@checkpoint=2"), HasSubstr("after @ comes step=N"));
  EXPECT_THAT(message("kill-rank=1:3x@step=2"), HasSubstr("nothing comes after the rank"));
  EXPECT_THAT(message("slow-rank=1"), HasSubstr("after the rank comes :<number>x"));
  EXPECT_THAT(message("slow-rank=1:3"), HasSubstr("'3' is no positive number with 'x'"));
  EXPECT_THAT(message("slow-rank=1:nanx"), HasSubstr("no positive number"));
  EXPECT_THAT(message("slow-rank=1:0.5x"), HasSubstr("faster is not slow"));
  EXPECT_THAT(message("slow-rank=1:3x@step=4"), HasSubstr("takes no @"));
  EXPECT_THAT(message("disk-full"), HasSubstr("@checkpoint=N is missing"));
  EXPECT_THAT(message("disk-full=1@checkpoint=1"), HasSubstr("takes no rank"));
  EXPECT_THAT(message("corrupt-latest@step=1"), HasSubstr("takes no @"));
  EXPECT_THAT(message("corrupt-latest,corrupt-latest"), HasSubstr("is given twice"));
  EXPECT_THAT(message("nan@step=1,,"), HasSubstr("--chaos: ''"));
}

// Chaos cannot be copied.
#define CHAOS(name, text, files, rank)    \
  Chaos name(parse_chaos(text), rank, 4); \
  name.open(files, "run")

TEST(ChaosEvents, ARankThatTheJobLacksIsRefusedUnlessItHasHappened) {
  MemoryFiles files;
  files.make_folder("run");
  EXPECT_THROW({ CHAOS(chaos, "nan=4@step=1", files, 0); }, Error);
  files.make_folder("run/chaos/nan=4@step=1");
  CHAOS(chaos, "nan=4@step=1", files, 0);
  EXPECT_FALSE(chaos.poisons(1, 1));
}

TEST(ChaosEvents, ARankThatTheJobLacksAfterItHasShrunkIsDropped) {
  MemoryFiles files;
  files.make_folder("run");
  write_atomically(files, "run/run.json", "{}");   // begun by another attempt
  CHAOS(chaos, "kill-rank=4@step=1,nan=3@step=2", files, 3);
  chaos.before_step(1, 1);
  EXPECT_TRUE(chaos.poisons(2, 1)) << "the others stay";
  EXPECT_FALSE(files.exists("run/chaos/kill-rank=4@step=1"));
}

TEST(ChaosEvents, HappenOnceOnTheirRankAndStep) {
  MemoryFiles files;
  files.make_folder("run");
  const std::string text = "nan=2@step=7,slow-rank=2:3x,slow-reads=2:5ms";
  CHAOS(other, text, files, 1);
  other.before_step(5, 5);
  EXPECT_FALSE(other.poisons(7, 5));
  EXPECT_EQ(other.slowness(), 1);
  EXPECT_TRUE(other.is_edge(6, 5) && other.is_edge(7, 5));
  EXPECT_FALSE(other.is_edge(5, 5) || other.is_edge(8, 5));
  CHAOS(chaos, text, files, 2);
  EXPECT_EQ(chaos.slowness(), 1);
  chaos.before_step(5, 5);
  EXPECT_EQ(chaos.slowness(), 3);
  EXPECT_DOUBLE_EQ(chaos.read_delay(), 0.005);
  EXPECT_FALSE(chaos.poisons(6, 5));
  EXPECT_TRUE(chaos.poisons(7, 5));
  EXPECT_FALSE(chaos.poisons(7, 5));
  EXPECT_TRUE(files.exists("run/chaos/nan=2@step=7"));
  CHAOS(next, text, files, 2);   // the next attempt
  next.before_step(1, 1);
  EXPECT_EQ(next.slowness(), 1);
  EXPECT_FALSE(next.poisons(7, 1));
}

TEST(ChaosEvents, KillIsAKill) {
  MemoryFiles files;
  files.make_folder("run");
  EXPECT_EXIT(
      {
        CHAOS(chaos, "kill-rank=1@step=3", files, 1);
        chaos.before_step(2, 1);
        chaos.before_step(3, 1);
      },
      testing::KilledBySignal(SIGKILL), "chaos: kill-rank=1@step=3");
}

TEST(ChaosEvents, TheDiskIsFullForOneCheckpoint) {
  MemoryFiles files;
  files.make_folder("run/checkpoints");
  CHAOS(none, "corrupt-latest", files, 0);
  EXPECT_EQ(none.faulty(files), nullptr);
  CHAOS(chaos, "disk-full@checkpoint=2", files, 0);
  const auto full = chaos.faulty(files);
  const auto write = [&](const std::string& path) {
    const auto file = full->create(path);
    file->write("x", 1);
    file->close();
  };
  full->make_folder("run/checkpoints/step-000000000005.tmp-a");
  full->make_folder("run/checkpoints/step-000000000010.tmp-a");
  write("run/checkpoints/step-000000000005.tmp-a/one");
  write("run/checkpoints/step-000000000005.tmp-a/two");
  try {
    write("run/checkpoints/step-000000000010.tmp-a/one");
    FAIL() << "the second checkpoint found space";
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), Exit::storage);
    EXPECT_THAT(e.what(), HasSubstr("No space left on device"));
  }
  EXPECT_THROW(write("run/checkpoints/step-000000000010.tmp-a/one"), Error) << "tried again";
  write("run/run.json");
  full->make_folder("run/checkpoints/step-000000000015.tmp-a");
  write("run/checkpoints/step-000000000015.tmp-a/one");
  CHAOS(next, "disk-full@checkpoint=2", files, 0);
  const auto later = next.faulty(files);
  for (const char* step : {"20", "25"}) {
    const std::string folder = std::string("run/checkpoints/step-0000000000") + step + ".tmp-a";
    later->make_folder(folder);
    EXPECT_NO_THROW(later->create(folder + "/one")->write("x", 1));
  }
}

TEST(ChaosEvents, TheNewestOfTwoCheckpointsIsDamaged) {
  const std::string run = testing::TempDir() + "chaos_latest";
  const std::string checkpoints = run + "/checkpoints";
  Files& files = real_files();
  files.remove(run);
  const auto add = [&](const std::string& name) {
    files.make_folder(checkpoints + "/" + name);
    std::ofstream(checkpoints + "/" + name + "/large") << std::string(1000, 'a');
    std::ofstream(checkpoints + "/" + name + "/small") << "b";
  };
  const auto large = [&](const std::string& name) {
    return files.read(checkpoints + "/" + name + "/large");
  };
  Chaos chaos(parse_chaos("corrupt-latest"), 0, 1);
  files.make_folder(run);
  chaos.open(files, run);
  chaos.before_resume(checkpoints);
  add("step-000000000005");
  add("step-000000000010.tmp-x");
  chaos.before_resume(checkpoints);
  EXPECT_EQ(large("step-000000000005"), std::string(1000, 'a')) << "the only one";
  add("step-000000000010");
  chaos.before_resume(checkpoints);
  EXPECT_EQ(large("step-000000000005"), std::string(1000, 'a'));
  EXPECT_NE(large("step-000000000010"), std::string(1000, 'a'));
  EXPECT_EQ(large("step-000000000010").size(), 1000u);
  const std::string once = large("step-000000000010");
  chaos.before_resume(checkpoints);
  EXPECT_EQ(large("step-000000000010"), once);
}

}  // namespace
}  // namespace cohort
