// Reusable blocks in the YAML of a model.
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/model_config.h"

namespace cohort {
namespace {

ModelConfig config_of(const std::string& text) {
  ModelConfig config;
  Binder::read(Document::parse(text, "model.yaml"), config);
  return config;
}

std::string error_of(const std::string& text) {
  try {
    config_of(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), Exit::usage);
    return error.what();
  }
  return "no error";
}

const std::string tail =
    "inputs: {image: {}}\n"
    "loss: {mse: {target: y}}\n";

// A residual block of one convolution, used twice; a block that uses it.
const std::string residual =
    "blocks:\n"
    "  same:\n"
    "    parameters: [filters, act]\n"
    "    layers:\n"
    "      - conv2d: {filters: $filters*2, kernel: 3, padding: 1, activation: $act}\n"
    "      - batch_norm: {name: norm}\n"
    "      - add: {from: [norm, input]}\n"
    "  pair:\n"
    "    parameters: [filters]\n"
    "    layers:\n"
    "      - use: {block: same, name: one, with: {filters: $filters, act: relu}}\n"
    "      - use: {block: same, name: two, from: input, with: {filters: $filters*3, act: tanh}}\n"
    "      - concat: {name: both, from: [one, two]}\n";

TEST(Blocks, AreWrittenOutWithNamesOfTheirOwn) {
  const ModelConfig c = config_of(
      tail + residual +
      "layers:\n"
      "  - conv2d: {from: image, filters: 8, kernel: 3}\n"
      "  - use: {block: same, name: stage, repeat: 2, with: {filters: 4, act: none}}\n"
      "  - use: {block: pair, with: {filters: 4}}\n"
      "  - flatten: {from: stage}\n"
      "  - dense: {units: 2}\n");
  std::vector<std::string> names;
  for (const LayerConfig& layer : c.layers) names.push_back(layer.name);
  EXPECT_EQ(names, std::vector<std::string>(
                       {"conv2d0", "stage.0.conv2d0", "stage.0.norm", "stage.0.add2",
                        "stage.1.conv2d0", "stage.1.norm", "stage.1.add2", "pair2.one.conv2d0",
                        "pair2.one.norm", "pair2.one.add2", "pair2.two.conv2d0", "pair2.two.norm",
                        "pair2.two.add2", "pair2.both", "flatten3", "dense4"}));
  EXPECT_EQ(c.layers[1].from, "conv2d0");
  EXPECT_EQ(c.layers[1].filters, 8);
  EXPECT_EQ(c.layers[2].from, "");
  EXPECT_EQ(c.layers[3].parts, std::vector<std::string>({"stage.0.norm", "conv2d0"}));
  EXPECT_EQ(c.layers[4].from, "stage.0.add2");
  EXPECT_EQ(c.layers[10].from, "stage.1.add2");
  EXPECT_EQ(c.layers[10].filters, 24);
  EXPECT_EQ(c.layers[10].activation, "tanh");
  EXPECT_EQ(c.layers[13].parts, std::vector<std::string>({"pair2.one.add2", "pair2.two.add2"}));
  EXPECT_EQ(c.layers[14].from, "stage.1.add2");
  EXPECT_EQ(c.layers[4].place, "model.yaml:7:17");   // where the block says it
}

TEST(Blocks, TheResolvedTextReadsBackEqual) {
  const ModelConfig c = config_of(tail + residual +
                                  "layers:\n"
                                  "  - use: {block: pair, from: image, with: {filters: 4}}\n"
                                  "  - flatten: {}\n");
  const std::string text = Binder::write(c);
  EXPECT_EQ(Binder::write(config_of(text)), text);
  EXPECT_EQ(text.find("use"), std::string::npos);
}

TEST(Blocks, AModelWithoutThemIsLeftAsItIs) {
  const ModelConfig c = config_of(tail + "layers: [{flatten: {from: image}}]\n");
  EXPECT_EQ(c.layers.at(0).name, "");
}

std::string with_use(const std::string& use) {
  return tail + residual +
         "layers:\n  - use: {block: pair, from: image, with: {filters: 4}}\n  - use: {" + use + "}\n";
}

TEST(Blocks, WrongUsesNameThePlace) {
  const auto expect = [](const std::string& use, const std::string& wanted) {
    EXPECT_EQ(error_of(with_use(use)), wanted);
  };
  expect("block: sam", "model.yaml:18:18: layers[].use.block: unknown block 'sam'; did you mean "
                       "'same'?");
  expect("block: pair", "model.yaml:18:10: block 'pair' needs the parameter 'filters'; give it in with");
  expect("block: pair, with: {filter: 3}",
         "model.yaml:18:31: block 'pair' has no parameter 'filter'; did you mean 'filters'?");
  expect("block: pair, with: {filters: many}",
         "model.yaml:7:27: expected a product of whole numbers, got '$filters*2' with 'many'");
  expect("block: same, with: {filters: 2, act: rele}",
         "model.yaml:18:48: layers[7].conv2d.activation: expected one of: none, relu, tanh, "
         "sigmoid (did you mean 'relu'?), got 'rele'");
  expect("block: pair, repeat: 0, with: {filters: 3}",
         "model.yaml:18:32: layers[].use.repeat: expected from 1 to 1000, got '0'");
  expect("block: pair, times: 2, with: {filters: 3}",
         "model.yaml:18:24: unknown key 'layers[].use.times'; expected one of: name, from, block, block, "
         "repeat, with");
  expect("name: pair0, block: pair, with: {filters: 3}",
         "model.yaml:18:10: the name 'pair0' is taken by an earlier layer; choose another");
  EXPECT_EQ(error_of(tail + "layers: [{use: {block: a}}]\n"),
            "model.yaml:3:24: layers[].use.block: unknown block 'a'; there are none: add it under "
            "blocks");
}

TEST(Blocks, WrongBlocksNameThePlace) {
  const auto expect = [](const std::string& blocks, const std::string& wanted) {
    EXPECT_EQ(error_of(tail + "blocks:\n" + blocks +
                       "layers: [{use: {block: a, from: image, with: {}}}]\n"),
              wanted);
  };
  expect("  a: {layers: [{use: {block: b}}]}\n  b: {layers: [{use: {block: a}}]}\n",
         "model.yaml:5:30: layers[].use.block: block 'a' uses itself (a > b > a)");
  expect("  a: {layers: [{flatten: {from: image}}]}\n",
         "model.yaml:4:33: block 'a' has no earlier layer 'image'; expected one of: input");
  expect("  a: {layers: [{dense: {units: $n}}]}\n",
         "model.yaml:4:32: block 'a' has no parameter 'n'; add it to its parameters");
  expect("  a: {layers: [{flatten: {}}]}\n  b: {layers: [{flatten: {}}]}\n",
         "model.yaml:5:3: block 'b' is never used; remove it");
  expect("  a: {layers: []}\n",
         "model.yaml:4:15: blocks.a.layers: expected at least one layer under the key 'layers'");
  expect("  a: {layers: [{flatten: {from: {x: y}}}]}\n",
         "model.yaml:4:33: from: expected a name, got a map of 1 keys");
  expect("  a: {layers: [{use: }]}\n",
         "model.yaml:4:17: use: expected a map with the key 'block', got nothing");
  expect("  a: {layers: [{flatten: {name: input}}]}\n",
         "model.yaml:4:26: the name 'input' is taken in block 'a'; choose another");
  expect("  a: {parameters: [n], layers: [{flatten: {}}]}\n",
         "model.yaml:5:16: block 'a' needs the parameter 'n'; give it in with");
}

TEST(Blocks, AParameterThatNothingReadsIsRefused) {
  EXPECT_EQ(error_of(tail +
                     "blocks:\n"
                     "  a: {parameters: [n], layers: [{flatten: {}}]}\n"
                     "layers: [{use: {block: a, from: image, with: {n: 1}}}]\n"),
            "model.yaml:4:6: parameter 'n' of block 'a' is never used; remove it");
}

TEST(Blocks, RepeatsAreBounded) {
  EXPECT_NE(error_of(tail +
                     "blocks:\n"
                     "  a: {layers: [{flatten: {}}]}\n"
                     "  b: {layers: [{use: {block: a, repeat: 1000}}]}\n"
                     "layers: [{use: {block: b, from: image, repeat: 1000}}]\n")
                .find("more than 10000 layers; repeat less"),
            std::string::npos);
}

}  // namespace
}  // namespace cohort
