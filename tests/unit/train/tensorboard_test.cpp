#include "train/tensorboard.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "memory_files.h"
#include "store/files.h"
#include "train/progress.h"

namespace cohort {
namespace {

// Runs a script of this folder; its exit status is the test's.
int run_python(const std::string& script, const std::string& argument) {
  const std::string here = std::filesystem::path(__FILE__).parent_path().string();
  const std::string command = std::string("\"") + std::getenv("COHORT_TEST_PYTHON") + "\" \"" +
                              here + "/" + script + "\" \"" + argument + "\"";
  return std::system(command.c_str());
}
#define NEEDS_PYTHON() \
  if (!std::getenv("COHORT_TEST_PYTHON")) GTEST_SKIP() << "COHORT_TEST_PYTHON is not set"

std::string scratch(const std::string& name) {
  const auto path = std::filesystem::path(::testing::TempDir()) / ("cohort-" + name);
  std::filesystem::remove_all(path);
  std::filesystem::create_directories(path);
  return path.string();
}

TEST(Tensorboard, ChecksumOfTheStandard) {
  EXPECT_EQ(crc32c("123456789", 9), 0xe3069283u);   // RFC 3720, appendix B.4 generator's check
  const std::string zeros(32, '\0');
  EXPECT_EQ(crc32c(zeros.data(), 32), 0x8a9136aau);
}

TEST(Tensorboard, ItsOwnReaderReadsIt) {
  NEEDS_PYTHON();
  const std::string folder = scratch("events");
  EventFile events(real_files(), folder, 1, 1700000000.5);
  for (i64 step = 0; step < 300; ++step) {
    events.scalar("train/loss", 1.0 / static_cast<double>(step + 1), step,
                  1700000000.5 + static_cast<double>(step));
  }
  events.scalar("validation/accuracy", 0.5, 299, 1700000400);
  EXPECT_EQ(run_python("read_events.py", folder), 0);
}

TEST(Tensorboard, WhatCannotBeWrittenGoesToAnotherFile) {
  MemoryFiles files;
  files.make_folder("run");
  EventFile events(files, "run", 1, 1700000000);
  events.scalar("loss", 1, 1, 1700000001);
  files.arm(Fault::torn, 0);
  events.scalar("loss", 2, 2, 1700000002);
  events.scalar("loss", 3, 3, 1700000003);
  ASSERT_EQ(files.list("run").size(), 1u);
  events.finish();
  const std::vector<std::string> names = files.list("run");
  ASSERT_EQ(names.size(), 2u);
  EXPECT_EQ(names[1].rfind("events.out.tfevents.1700000003.", 0), 0u) << names[1];
  // A first record and one value, against a first record and two.
  const i64 first = 12 + 24 + 4, value = files.size("run/" + names[1]) - first;
  EXPECT_EQ(value % 2, 0);
  EXPECT_EQ(files.size("run/" + names[0]), first + value / 2 + value / 4);
}

TEST(Progress, TextTellsSharesAndTimeLeft) {
  ProgressState state;
  state.epoch = 1;
  state.epochs = 10;
  state.step = 100;
  state.steps = 300;
  state.loss = 0.5;
  state.data_seconds = 2;
  state.comm_seconds = 1;
  state.total_seconds = 10;
  state.steps_timed = 50;
  const std::string text = progress_text(state);
  EXPECT_NE(text.find("epoch 2/10 step 100/300 loss 0.5"), std::string::npos) << text;
  EXPECT_NE(text.find("compute 70% data 20% comm 10%"), std::string::npos) << text;
  EXPECT_EQ(progress_bar(state, 200).rfind("[######..............] ", 0), 0u);
  EXPECT_EQ(progress_bar(state, 30).size(), 29u);
}

}  // namespace
}  // namespace cohort
