#include "nonfinite.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <mutex>

namespace cohort::testing {
namespace {

class NonFiniteTest : public ::testing::TestWithParam<std::string> {};

TEST_P(NonFiniteTest, ReferenceDevice) {
  const auto device = make_reference_device();
  check_nonfinite(with_batch_norm(GetParam()), *device);
}

TEST_P(NonFiniteTest, CpuDevice) {
  const auto device = make_cpu_device({});
  check_nonfinite(with_batch_norm(GetParam()), *device);
}

INSTANTIATE_TEST_SUITE_P(Families, NonFiniteTest, ::testing::ValuesIn(family_names()),
                         [](const auto& test) { return test_name(test.param); });

// A batch norm whose groups span ranks carries a NaN to the others: the first to have one is known.
TEST(NonFiniteRanks, TheRankOfTheSpoiledRowIsTheFirst) {
  const Family family = with_batch_norm("recommend-mlp");
  std::vector<NonFinite> found(3);
  run_as_threads(3, [&](Communicator& ranks) {
    const auto device = make_cpu_device({});
    const Graph graph = graph_from(family.model, family.fields, true);
    PlanConfig config;
    const Range own = owned_positions(13, ranks.rank(), 3);
    config.global_batch = 13;
    config.rows = own.end - own.begin;
    config.train = true;
    config.rank = ranks.rank();
    config.world = 3;
    config.optimizer = family.optimizer;
    Replica replica(*device, graph, config);
    CollectiveQueue queue(ranks.duplicate());
    Batch batch = rows_of(graph, family.fields, 13, {0, own, config.rows});
    const float inf = std::numeric_limits<float>::infinity();
    for (std::size_t k = 0; k < graph.inputs.size() && ranks.rank() == 1; ++k)
      if (graph.inputs[k].dtype == DType::f32)
        std::memcpy(batch.columns[k].data.data(), &inf, 4);
    EXPECT_TRUE(replica.plan().step(batch, {}, {}, &queue, 0.01).skipped);
    found[static_cast<std::size_t>(ranks.rank())] =
        replica.plan().find_nonfinite(batch, {}, &queue);
  });
  EXPECT_EQ(found[1].tensor, "input 'user_features'");
  EXPECT_EQ(found[1].rows, std::vector<i64>{0});
  EXPECT_GT(found[0].order, found[1].order);   // a group of positions is split between 0 and 1
  EXPECT_EQ(found[2].order, -1);
}

}  // namespace
}  // namespace cohort::testing
