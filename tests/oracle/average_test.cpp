#include "average.h"

#include <gtest/gtest.h>

#include "job.h"

namespace cohort::testing {
namespace {

class AverageTest : public ::testing::TestWithParam<std::string> {};

TEST_P(AverageTest, ReferenceDevice) {
  const auto device = make_reference_device();
  check_average(with_batch_norm(GetParam()), *device, 1e-12);
}

TEST_P(AverageTest, CpuDevice) {
  const auto device = make_cpu_device({});
  check_average(with_batch_norm(GetParam()), *device, 1e-6);
}

TEST_P(AverageTest, RanksAndMicroBatchesAgreeWithOne) {
  Job job{without_batch_norm(GetParam()), 1, 1, [](int) { return make_reference_device(); }, {}};
  job.steps = 12;
  job.family.optimizer.ema = 0.8;
  const Record one = train(job);
  i64 averages = 0;
  for (const auto& [name, values] : one.end)
    averages += name.starts_with(average_name("")) ? 1 : 0;
  EXPECT_GT(averages, 0);
  job.world = 3;
  job.micro_batches = 2;
  expect_same(train(job), one, 1e-9);
}

INSTANTIATE_TEST_SUITE_P(Families, AverageTest, ::testing::ValuesIn(family_names()),
                         [](const auto& test) { return test_name(test.param); });

// Adam's step and the average's both come from the updates that a checkpoint tells.
TEST(Average, GoesOnBitForBit) {
  const Family family = with_batch_norm("recommend-mlp");
  const Graph graph = graph_from(family.model, family.fields, true);
  const auto device = make_cpu_device({});
  PlanConfig config = one_rank(family, 13);
  config.optimizer.ema = 0.99;
  const auto solo = make_solo();
  const auto step = [&](Replica& replica, i64 at) {
    const Batch batch = rows_of(graph, family.fields, 13, {at, {0, 13}, 13});
    replica.plan().step(batch, sparse_rows(graph, batch, *solo), {}, nullptr, 0.01);
  };
  Replica whole(*device, graph, config), second(*device, graph, config);
  for (i64 at = 0; at < 3; ++at) step(whole, at);
  second.restore(whole.tensors());
  second.state().write_decision(whole.state().read_decision());
  for (i64 at = 3; at < 6; ++at) {
    step(whole, at);
    step(second, at);
  }
  EXPECT_EQ(second.tensors(), whole.tensors());
}

}  // namespace
}  // namespace cohort::testing
