// Which world sizes an allocation of Slurm takes, by what Slurm 22.05 and Open MPI 4 set.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "comm/communicator.h"

namespace cohort {
namespace {

using testing::HasSubstr;
using Variables = std::vector<std::pair<std::string, std::string>>;

// wrong_world_size() with these variables alone.
std::string wrong(const Variables& variables, i64 size) {
  for (const char* name : {"COHORT_WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_JOB_ID", "SLURM_NTASKS",
                           "SLURM_JOB_NUM_NODES", "SLURM_NTASKS_PER_NODE", "SLURM_PROCID",
                           "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES"})
    ::unsetenv(name);
  for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
  const std::string text = wrong_world_size(size);
  for (const auto& [name, value] : variables) ::unsetenv(name.c_str());
  return text;
}

Variables operator+(Variables some, const Variables& more) {
  some.insert(some.end(), more.begin(), more.end());
  return some;
}

// A batch script of four tasks on two nodes, which has a SLURM_PROCID.
const Variables script = {{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "4"}, {"SLURM_JOB_NUM_NODES", "2"},
                          {"SLURM_PROCID", "0"}};

Variables step(const std::string& tasks, const std::string& nodes) {
  return {{"SLURM_JOB_ID", "7"},      {"SLURM_JOB_NUM_NODES", "2"},   {"SLURM_PROCID", "1"},
          {"SLURM_STEP_ID", "0"},     {"SLURM_STEP_NUM_TASKS", tasks}, {"SLURM_NTASKS", tasks},
          {"SLURM_STEP_NUM_NODES", nodes}};
}

TEST(WorldSize, AnyOutsideOfSlurm) {
  EXPECT_EQ(wrong({}, 3), "");
  EXPECT_EQ(wrong({{"OMPI_COMM_WORLD_SIZE", "3"}}, 3), "");
}

TEST(WorldSize, OfMpirunInABatchScriptIsTheJobs) {
  const Variables ranks = script + Variables{{"OMPI_COMM_WORLD_SIZE", "2"}};
  EXPECT_THAT(wrong(ranks, 2), HasSubstr("2 ranks were started, but the Slurm job has 4 tasks"));
  EXPECT_THAT(wrong(ranks, 2), HasSubstr("COHORT_WORLD_SIZE=2"));
  EXPECT_THAT(wrong(ranks, 8), HasSubstr("has 4 tasks"));
  EXPECT_EQ(wrong(ranks, 4), "");
  EXPECT_THAT(wrong(script, 1), HasSubstr("has 4 tasks"));   // no launcher
  // Asked for by nodes alone.
  const Variables nodes = {{"SLURM_JOB_ID", "7"}, {"SLURM_JOB_NUM_NODES", "3"}};
  EXPECT_THAT(wrong(nodes, 2), HasSubstr("has 3 nodes"));
  EXPECT_EQ(wrong(nodes, 6), "");
}

TEST(WorldSize, OfMpirunsDaemonsIsNotTheJobs) {
  // A rank on the second node: srun started one daemon there.
  EXPECT_EQ(wrong(step("1", "1") + Variables{{"OMPI_COMM_WORLD_SIZE", "4"},
                                             {"SLURM_NTASKS_PER_NODE", "1"}}, 4), "");
}

TEST(WorldSize, OfAStepIsTheJobs) {
  EXPECT_EQ(wrong(step("2", "2"), 2), "");
  EXPECT_THAT(wrong(step("2", "1"), 2), HasSubstr("on 1 of the job's 2 nodes"));
  const Variables each = {{"SLURM_NTASKS_PER_NODE", "2"}};
  EXPECT_THAT(wrong(step("2", "2") + each, 2), HasSubstr("has 4 tasks"));
  EXPECT_EQ(wrong(step("4", "2") + each, 4), "");
}

TEST(WorldSize, AnyThatIsMeant) {
  EXPECT_EQ(wrong(script + Variables{{"COHORT_WORLD_SIZE", "2"}}, 2), "");
  EXPECT_EQ(wrong(step("1", "1") + Variables{{"COHORT_WORLD_SIZE", "1"}}, 1), "");
  EXPECT_THAT(wrong({{"COHORT_WORLD_SIZE", "3"}}, 2), HasSubstr("COHORT_WORLD_SIZE is 3"));
  EXPECT_THROW(wrong({{"COHORT_WORLD_SIZE", "some"}}, 2), Error);
}

}  // namespace
}  // namespace cohort
