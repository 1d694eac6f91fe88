// The answer does not depend on how many ranks share the batch, nor on micro batches.
#include <gtest/gtest.h>

#include "job.h"

namespace cohort::testing {
namespace {

constexpr int worlds[] = {2, 3, 4, 5, 7, 8};

std::unique_ptr<Device> reference(int) { return make_reference_device(); }

class RanksTest : public ::testing::TestWithParam<std::string> {};

TEST_P(RanksTest, ReferenceDeviceAgreesWithOneRank) {
  Job job{with_batch_norm(GetParam()), 1, 1, reference, {}};
  const Record one = train(job);
  expect_trained(job, one);
  for (int world : worlds) {
    SCOPED_TRACE(std::to_string(world) + " ranks");
    job.world = world;
    expect_same(train(job), one, 1e-9);
  }
}

TEST_P(RanksTest, MicroBatchesAgreeWithOne) {
  Job job{without_batch_norm(GetParam()), 1, 1, reference, {}};
  const Record one = train(job);
  for (int world : {1, 3}) {
    for (i64 micro_batches : {2, 3}) {
      SCOPED_TRACE(std::to_string(world) + " ranks, micro batches " +
                   std::to_string(micro_batches));
      job.world = world;
      job.micro_batches = micro_batches;
      expect_same(train(job), one, 1e-9);
    }
  }
}

TEST_P(RanksTest, CpuDeviceFollowsOneRank) {
  for (bool norm : {true, false}) {
    Job job{norm ? with_batch_norm(GetParam()) : without_batch_norm(GetParam()), 1, 1,
            [](int) { return make_cpu_device({}); }, {}};
    const Trail trail = one_rank_trail(job);
    for (int world : worlds) {
      SCOPED_TRACE(std::to_string(world) + (norm ? " ranks, batch norm" : " ranks"));
      job.world = world;
      EXPECT_EQ(follow(job, trail), "");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, RanksTest, ::testing::ValuesIn(family_names()),
                         [](const auto& test) { return test_name(test.param); });

}  // namespace
}  // namespace cohort::testing
