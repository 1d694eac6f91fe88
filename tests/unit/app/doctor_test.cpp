// Findings of many ranks as one report, and the examination itself on ranks as threads.
#include "app/doctor.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "store/files.h"
#include "../../comm/thread_world.h"

namespace cohort {
namespace {

const Hosts two_hosts{{"a", "a", "b", "b"}, {"a", "b"}, {{0, 1}, {2, 3}}};

TEST(Doctor, WhatRanksSayAlikeIsOneFinding) {
  const Finding good{"nofile", Fitness::ok, "1024 open files"};
  const Finding bad{"nofile", Fitness::unfit, "60 open files", "ulimit -n 4096"};
  const auto merged = merge_findings({{good}, {bad}, {bad}, {bad}}, two_hosts);
  ASSERT_EQ(merged.size(), 2u);
  EXPECT_EQ(merged[0]["where"], "rank 0 (host a)");
  EXPECT_EQ(merged[1]["where"], "ranks 1-3 (hosts a, b)");
  EXPECT_EQ(merged[1]["remedy"], "ulimit -n 4096");
  EXPECT_EQ(merge_findings({{good}, {good}, {good}, {good}}, two_hosts)[0]["where"], "all ranks");
}

TEST(Doctor, OfHostsAndJobs) {
  Finding host{"shm", Fitness::warn, "1 MiB free", "more"};
  host.of_host = true;
  Finding job{"clocks", Fitness::ok, "1 s"};
  job.of_job = true;
  const auto merged = merge_findings({{host, job}, {}, {host}, {}}, two_hosts);
  ASSERT_EQ(merged.size(), 3u);
  EXPECT_EQ(merged[0]["where"], "host a");
  EXPECT_EQ(merged[1]["where"], "host b");
  EXPECT_EQ(merged[2]["where"], "job");
}

TEST(Doctor, TheGravestCauseIsTheExitCode) {
  const Finding warned{"a", Fitness::warn, "", "", Exit::lost};
  const Finding usage{"b", Fitness::unfit, "", "", Exit::usage};
  const Finding storage{"c", Fitness::unfit, "", "", Exit::storage};
  const Finding lost{"d", Fitness::unfit, "", "", Exit::lost};
  const auto of = [](std::vector<Finding> findings) {
    return verdict(merge_findings({std::move(findings), {}, {}, {}}, two_hosts));
  };
  EXPECT_EQ(of({warned}), Exit::done);
  EXPECT_EQ(of({warned, usage}), Exit::usage);
  EXPECT_EQ(of({storage, usage}), Exit::storage);
  EXPECT_EQ(of({lost, storage}), Exit::lost);
}

std::vector<int> examine(const std::string& folder) {
  std::vector<int> codes(3);
  run_as_threads(3, [&](Communicator& ranks) {
    ThreadWorld world(ranks);
    codes[static_cast<std::size_t>(ranks.rank())] = run_doctor(world, {folder, 1, true});
  });
  return codes;
}

TEST(Doctor, RanksGiveOneAnswerAndLeaveNothing) {
  const std::string folder = testing::TempDir() + "doctor";
  real_files().remove(folder);
  real_files().make_folder(folder);
  EXPECT_EQ(examine(folder + "/runs"), std::vector<int>(3, 0));
  EXPECT_TRUE(real_files().list(folder).empty());
  std::ofstream(folder + "/file") << "x";
  EXPECT_EQ(examine(folder + "/file/runs"), std::vector<int>(3, static_cast<int>(Exit::storage)));
}

}  // namespace
}  // namespace cohort
