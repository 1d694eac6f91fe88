// The benchmark workloads are the models that they are said to be.
#include <gtest/gtest.h>

#include <cstdlib>

#include "app/bench_cases.h"
#include "model/build.h"
#include "model/fuse.h"
#include "train/experiment.h"

namespace cohort {
namespace {

i64 weights_of(const Graph& graph) {
  i64 n = 0;
  for (const Param& param : graph.params)
    if (!param.running) n += count(param.shape);
  return n;
}

// Weights as torch_step.py's models have them, less the second bias of its LSTMs.
TEST(Bench, WorkloadsHaveTheirWeights) {
  const auto weights = [](const std::string& name, bool gpu) {
    return weights_of(make_bench_case(name, gpu, 0).graph);
  };
  EXPECT_EQ(weights("behavior-seed", true), 200 * (32 + 50 + 1) + 51);
  EXPECT_EQ(weights("behavior", false), 1024 * (64 + 256 + 1) + 1024 * (256 + 256 + 1) + 257);
  EXPECT_EQ(weights("behavior", true), 2048 * (64 + 512 + 1) + 2048 * (512 + 512 + 1) + 513);
  EXPECT_EQ(weights("recommend", true), 300000 * 64 + 2 * (81 * 256 + 257 * 128));
  EXPECT_EQ(weights("recommend", false), 150000 * 32 + 2 * (49 * 128 + 129 * 64));
  EXPECT_EQ(weights("sentiment", true), 30000 * 300 + 100 * (12 * 300 + 3) + 301);
  EXPECT_EQ(weights("image-seed", true), 32 * 10 + 100 * 5409 + 1010);
  EXPECT_EQ(weights("resnet18", true), 11'173'962);
  EXPECT_EQ(weights("resnet50", false), 25'557'032);
}

TEST(Bench, ResNetsAreThoseOfTheConfigs) {
  const char* source = std::getenv("COHORT_TEST_SOURCE");
  ASSERT_TRUE(source) << "run through ctest";
  for (const std::string name : {"resnet18", "resnet50"}) {
    const BenchCase bench = make_bench_case(name, true, 0);
    const Experiment e =
        Experiment::load(source + ("/configs/image-" + name + ".yaml"), {});
    const Graph graph = fuse(build_graph(e.model, bench.fields, {}));
    ASSERT_EQ(bench.graph.nodes.size(), graph.nodes.size());
    for (std::size_t k = 0; k < graph.nodes.size(); ++k) {
      EXPECT_EQ(bench.graph.nodes[k].name, graph.nodes[k].name);
      EXPECT_EQ(bench.graph.nodes[k].in, graph.nodes[k].in);
      EXPECT_EQ(bench.graph.nodes[k].op.index(), graph.nodes[k].op.index());
    }
    ASSERT_EQ(bench.graph.values.size(), graph.values.size());
    for (std::size_t v = 0; v < graph.values.size(); ++v)
      EXPECT_EQ(bench.graph.values[v].shape, graph.values[v].shape) << graph.values[v].name;
    ASSERT_EQ(bench.graph.params.size(), graph.params.size());
    for (std::size_t p = 0; p < graph.params.size(); ++p)
      EXPECT_EQ(bench.graph.params[p].shape, graph.params[p].shape);
    EXPECT_EQ(bench.optimizer.name, e.optimizer.name);
    EXPECT_EQ(bench.optimizer.momentum, e.optimizer.momentum);
    EXPECT_EQ(bench.batch, e.train.global_batch);
  }
}

TEST(Bench, BatchesFitTheirInputs) {
  for (const std::string& name : bench_names()) {
    const BenchCase bench = make_bench_case(name, true, 3);
    const Batch batch = make_bench_batch(bench, 1);
    ASSERT_EQ(batch.columns.size(), bench.graph.inputs.size()) << name;
    for (std::size_t k = 0; k < batch.columns.size(); ++k) {
      const Input& input = bench.graph.inputs[k];
      EXPECT_EQ(static_cast<i64>(batch.columns[k].data.size()),
                3 * count(input.shape) * size_of(input.dtype))
          << name << " " << input.field;
    }
    EXPECT_EQ(bench_sparse_rows(bench, batch).size(),
              name == "recommend" ? 2U : name == "sentiment" ? 1U : 0U);
  }
}

}  // namespace
}  // namespace cohort
