// Counts of small models, each number by hand.
#include "plan/cost.h"

#include <gtest/gtest.h>

#include "base/config.h"
#include "model/build.h"
#include "model/fuse.h"
#include "plan/plan.h"

namespace cohort {
namespace {

struct ModelFile {
  ModelConfig model;
};
void bind(Binder& b, ModelFile& file) { bind(b, file.model); }

Graph graph_of(const std::string& text, const std::vector<Field>& fields) {
  ModelFile file;
  Binder::read(Document::parse(text, "test"), file);
  return fuse(build_graph(file.model, fields, {}));
}

Field field(const std::string& name, DType dtype, const Shape& shape, i64 classes = 0) {
  Field f;
  f.name = name;
  f.dtype = dtype;
  f.shape = shape;
  f.classes = classes;
  return f;
}

StepCost cost(const std::vector<StepCost>& costs, const std::string& what, int which = 0) {
  for (const StepCost& c : costs)
    if (c.what == what && which-- == 0) return c;
  ADD_FAILURE() << "no entry " << what;
  return {};
}

void expect(const StepCost& c, double flops, double read, double written) {
  EXPECT_EQ(c.flops, flops) << c.what;
  EXPECT_EQ(c.read, read) << c.what;
  EXPECT_EQ(c.written, written) << c.what;
}

// 10 rows of 3 features, 4 units, 1 output.
Graph two_layers() {
  return graph_of(R"(
inputs: {x: {normalize: none}}
layers: [{dense: {name: a, units: 4, activation: relu}}, {dense: {name: b, units: 1}}]
loss: {mse: {target: y}})",
                  {field("x", DType::f32, {3}), field("y", DType::f32, {1})});
}

TEST(Cost, DenseLayersByHand) {
  const Graph graph = two_layers();
  CostInputs inputs;
  inputs.graph = &graph;
  inputs.rows = 10;
  const auto costs = count_costs(inputs);
  expect(cost(costs, "fwd dense a"), 2 * 10 * 3 * 4, 4 * (30 + 12 + 4), 4 * 40);
  expect(cost(costs, "fwd dense b"), 2 * 10 * 4, 4 * (40 + 4 + 1), 4 * 10);
  // Gradients of weights and of what a gave: its gradient, input, weights, old and new gradients.
  expect(cost(costs, "bwd dense b"), 2 * 2 * 10 * 4, 4 * (10 + 40 + 4 + 4 + 1), 4 * (40 + 4 + 1));
  // The data want no gradient; ReLU's slope is in the result.
  expect(cost(costs, "bwd dense a"), 2 * 10 * 3 * 4, 4 * (40 + 40 + 30 + 12 + 4), 4 * (12 + 4));
  // Adam: a parameter, its gradient and two slots come, all but the gradient go.
  expect(cost(costs, "update"), 0, 4 * 4 * 21, 3 * 4 * 21);
  expect(cost(costs, "norm"), 0, 4 * 21, 0);
  expect(cost(costs, "zero gradients"), 0, 0, 4 * 21);
  EXPECT_EQ(total_of(costs).flops, 240 + 80 + 160 + 240);
}

TEST(Cost, HalfWideActivationsAndMicroBatches) {
  const Graph graph = two_layers();
  CostInputs inputs;
  inputs.graph = &graph;
  inputs.rows = 5;
  inputs.micro_batches = 2;
  inputs.value_bytes = 2;
  inputs.optimizer.name = "sgd";
  inputs.optimizer.momentum = 0.9;
  const auto costs = count_costs(inputs);
  expect(cost(costs, "fwd dense a"), 240, 2 * (2 * 15 + 4 * 16), 2 * 2 * 20);
  expect(cost(costs, "update"), 0, 3 * 4 * 21, 2 * 4 * 21);
}

TEST(Cost, AnAverageOfTheWeightsIsCounted) {
  const Graph graph = two_layers();
  CostInputs inputs;
  inputs.graph = &graph;
  inputs.optimizer.ema = 0.999;
  expect(cost(count_costs(inputs), "update"), 0, 5 * 4 * 21, 4 * 4 * 21);
  const auto device = make_null_device();
  PlanConfig config;
  config.train = true;
  ModelState plain(*device, graph, row_capacities(graph, 1), true), averaged = plain;
  averaged.keep_average();
  EXPECT_EQ(Plan(*device, graph, averaged, config).memory().slots,
            Plan(*device, graph, plain, config).memory().slots + plain.params.bytes());
}

TEST(Cost, RecurrentAndRowSparseByHand) {
  Field ids = field("ids", DType::i32, {}, 100);
  ids.ragged = true;
  ids.stats.max_length = 7;
  const Graph graph = graph_of(R"(
inputs: {ids: {}}
layers: [{embedding: {name: e, dim: 6}}, {lstm: {name: r, units: 5, output: last}}, {dense: {units: 1}}]
loss: {bce: {target: y}})",
                               {ids, field("y", DType::f32, {1})});
  CostInputs inputs;
  inputs.graph = &graph;
  inputs.rows = 2;
  const auto costs = count_costs(inputs);
  // 14 ids of a table of 100 rows: as many rows at most.
  expect(cost(costs, "fwd embedding e"), 0, 4 * (14 + 14 * 6), 4 * 14 * 6);
  expect(cost(costs, "bwd embedding e"), 0, 4 * (14 * 6 + 14 + 14 * 6), 4 * 14 * 6);
  expect(cost(costs, "update e.weight"), 0, 4 * 4 * 84, 3 * 4 * 84);
  const double steps = 2 * 7, weights = 20 * (6 + 5);
  EXPECT_EQ(cost(costs, "fwd lstm r").flops, 2 * steps * weights);
  EXPECT_EQ(cost(costs, "bwd lstm r").flops, 4 * steps * weights);
  EXPECT_EQ(cost(costs, "fwd lstm r").written, 4 * 2 * 5);
}

TEST(Cost, ConvolutionsAndBatchNormByHand) {
  const Graph graph = graph_of(R"(
inputs: {image: {normalize: none}}
layers:
  - conv2d: {name: c, filters: 8, kernel: 3, activation: relu}
  - max_pool2d: {size: 2, stride: 2}
  - conv2d: {name: d, filters: 4, kernel: 1, bias: false}
  - batch_norm: {name: n}
  - flatten: {}
  - dense: {units: classes}
loss: {cross_entropy: {target: label}})",
                               {field("image", DType::u8, {6, 6, 3}),
                                field("label", DType::i32, {}, 10)});
  CostInputs inputs;
  inputs.graph = &graph;
  inputs.rows = 1;
  const auto costs = count_costs(inputs);
  EXPECT_EQ(costs.front().read, 6 * 6 * 3);
  EXPECT_EQ(costs.front().written, 4 * 6 * 6 * 3);
  // 16 places before the pool, 4 after it; the picture wants no gradient.
  EXPECT_EQ(cost(costs, "fwd conv2d c").flops, 2 * 16 * 27 * 8);
  EXPECT_EQ(cost(costs, "bwd conv2d c").flops, 2 * 4 * 27 * 8);
  EXPECT_EQ(cost(costs, "bwd conv2d d").flops, 2 * 2 * 4 * 8 * 4);
  // Two phases each way over [2, 2, 4].
  expect(cost(costs, "fwd batch_norm n", 0), 0, 4 * 16, 0);
  expect(cost(costs, "fwd batch_norm n", 1), 0, 4 * (16 + 8), 4 * 16);
  expect(cost(costs, "bwd batch_norm n", 0), 0, 4 * 32, 0);
  expect(cost(costs, "bwd batch_norm n", 1), 0, 4 * (32 + 8), 4 * (16 + 8));
}

TEST(Cost, RooflineAddsTheSlowerOfTwo) {
  const std::vector<StepCost> costs = {{"a", 10, 1, 1}, {"b", 1, 4, 6}};
  EXPECT_EQ(roofline_seconds(costs, 2, 5), 5 + 2);
}

// The counts stand in the order of the flat list that a device runs, and add what it saves.
TEST(Cost, PlansCountTheirSteps) {
  const Graph graph = two_layers();
  for (const auto& device : {make_null_device(), make_cpu_device({})}) {
    ModelState state(*device, graph, row_capacities(graph, 10), true);
    PlanConfig config;
    config.global_batch = config.rows = 10;
    config.train = true;
    const Plan plan(*device, graph, state, config);
    const auto costs = plan.costs();
    EXPECT_EQ(cost(costs, "fwd dense a").flops, 240);
    const std::string text = plan.print();
    EXPECT_NE(text.find("at least"), std::string::npos) << text;
    for (const std::string line : {"fwd dense          a", "bwd dense          a"}) {
      const std::size_t at = text.find(line);
      ASSERT_NE(at, std::string::npos) << text;
      EXPECT_NE(text.substr(at, text.find('\n', at) - at).find(" 240FLOP"), std::string::npos)
          << text;
    }
  }
}

}  // namespace
}  // namespace cohort
