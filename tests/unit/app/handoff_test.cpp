#include "app/handoff.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "store/files.h"

namespace cohort {
namespace {

constexpr const char* waits_for = "COHORT_TEST_WAITS_FOR";

// What the children below do: each is this program again. Alone it does nothing.
TEST(Handoff, Child) {
  const char* file = std::getenv(waits_for);
  for (int k = 0; file != nullptr && real_files().exists(file) && k < 60000; ++k)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

TEST(Handoff, WhatFailsDoesNotTakeThoseThatWaitWithIt) {
  const std::string folder = testing::TempDir() + "handoff_" + std::to_string(::getpid());
  for (const char* step : {"1", "2"}) {
    real_files().make_folder(folder + "/step-" + step);
    std::ofstream(folder + "/step-" + step + "/manifest.json") << step;
  }
  std::ofstream(folder + "/held") << "held";
  ::setenv("GTEST_FILTER", "Handoff.Child", 1);
  ::setenv(waits_for, (folder + "/held").c_str(), 1);
  HandoffConfig config;
  config.repo = folder + "/repo";
  config.metric = "accuracy";
  const auto handoff = make_handoff(config, folder);
  handoff->begin(folder + "/step-1", 1, false);
  handoff->begin(folder + "/step-2", 2, true);
  handoff->begin(folder + "/step-3", 3, false);   // there is none
  EXPECT_THAT(handoff->steps(), testing::ElementsAre(1, 2));
  EXPECT_EQ(handoff->totals().failed, 1);
  real_files().remove(folder + "/held");
  handoff->wait();
  EXPECT_EQ(handoff->totals().promoted, 2);
  EXPECT_EQ(handoff->totals().failed, 1);
  ::unsetenv("GTEST_FILTER");
  ::unsetenv(waits_for);
  real_files().remove(folder);
}

}  // namespace
}  // namespace cohort
