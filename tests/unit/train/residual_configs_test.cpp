// configs/image-resnet*.yaml are the networks that everybody counts the weights of.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "model/build.h"
#include "model/fuse.h"
#include "train/experiment.h"

namespace cohort {
namespace {

Graph graph_of(const std::string& name, i64 side, i64 classes) {
  const char* source = std::getenv("COHORT_TEST_SOURCE");
  if (!source) throw std::runtime_error("COHORT_TEST_SOURCE is not set: run through ctest");
  const Experiment e = Experiment::load(source + ("/configs/" + name + ".yaml"), {});
  Field image{"image", DType::u8, {side, side, 3}, false, 0, "", {}};
  image.stats.mean = {100, 110, 120};
  image.stats.stddev = {60, 61, 62};
  return build_graph(e.model, {image, {"label", DType::i32, {}, false, classes, "", {}}}, {});
}

i64 weights_of(const Graph& graph) {
  i64 n = 0;
  for (const Param& param : graph.params)
    if (!param.running) n += count(param.shape);
  return n;
}

Shape shape_of(const Graph& graph, const std::string& layer) {
  for (const Value& value : graph.values)
    if (value.name == layer) return value.shape;
  return {};
}

template <class Kind>
i64 count_of(const Graph& graph) {
  return std::count_if(graph.nodes.begin(), graph.nodes.end(),
                       [](const Node& node) { return std::holds_alternative<Kind>(node.op); });
}

TEST(ResidualConfigs, ResNet50HasItsLayersAndWeights) {
  const Graph graph = graph_of("image-resnet50", 224, 1000);
  EXPECT_EQ(weights_of(graph), 25'557'032);   // torchvision's resnet50
  EXPECT_EQ(count_of<Conv2d>(graph), 53);
  EXPECT_EQ(count_of<Add>(graph), 16);
  EXPECT_EQ(shape_of(graph, "max_pool2d3"), Shape({56, 56, 64}));
  EXPECT_EQ(shape_of(graph, "stage3.4.add8"), Shape({14, 14, 1024}));
  EXPECT_EQ(shape_of(graph, "stage4.1.add8"), Shape({7, 7, 2048}));
}

TEST(ResidualConfigs, ResNet18HasItsLayersAndWeights) {
  const Graph graph = graph_of("image-resnet18", 32, 10);
  EXPECT_EQ(weights_of(graph), 11'173'962);   // with a 3x3 stem and no pool
  EXPECT_EQ(count_of<Conv2d>(graph), 20);
  EXPECT_EQ(shape_of(graph, "stage4.add5"), Shape({4, 4, 512}));
}

// Every ReLU is taken into the batch norm or the sum before it.
TEST(ResidualConfigs, FusionLeavesNoActivation) {
  for (const Graph& graph : {fuse(graph_of("image-resnet50", 224, 1000)),
                             fuse(graph_of("image-resnet18", 32, 10))}) {
    EXPECT_EQ(count_of<Activate>(graph), 0);
    for (const Node& node : graph.nodes) {
      if (const auto* add = std::get_if<Add>(&node.op)) {
        EXPECT_EQ(add->activation, Activation::relu);
      }
      for (i64 p : node.params) {
        const Param& param = graph.params[static_cast<std::size_t>(p)];
        EXPECT_EQ(param.decay, !std::holds_alternative<BatchNorm>(node.op) && param.shape.size() > 1)
            << param.name;
      }
    }
  }
}

}  // namespace
}  // namespace cohort
