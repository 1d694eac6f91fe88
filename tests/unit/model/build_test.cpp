#include "model/build.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "model/fuse.h"
#include "model/init.h"
#include "model/optimizer.h"

namespace cohort {
namespace {

std::vector<Field> fields() {
  Field tokens{"tokens", DType::i32, {}, true, 50, "", {}};
  tokens.stats.max_length = 9;
  Field events{"events", DType::f32, {3}, true, 0, "", {}};
  events.stats = {{1, 2, 3}, {2, 0, 4}, {}, {}, 6, 3};
  return {tokens, events, {"image", DType::u8, {8, 7, 3}, false, 0, "", {}},
          {"label", DType::i32, {}, false, 4, "", {}}, {"target", DType::f32, {1}, false, 0, "", {}}};
}

Graph graph_of(const std::string& layers, const std::string& inputs, const std::string& loss) {
  const std::string text = "inputs: {" + inputs + "}\nlayers:\n" + layers + "loss: {" + loss + "}\n";
  ModelConfig config;
  Binder::read(Document::parse(text, "model.yaml"), config);
  return build_graph(config, fields(), {});
}

std::string error_of(const std::string& layers, const std::string& inputs,
                     const std::string& loss) {
  try {
    graph_of(layers, inputs, loss);
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), Exit::usage);
    return error.what();
  }
  return "no error";
}

const char* text_layers =
    "  - embedding: {from: tokens, dim: 5}\n"
    "  - conv1d: {name: c, filters: 6, width: 3, activation: relu}\n"
    "  - max_over_time: {name: m}\n"
    "  - dense: {units: classes}\n";

TEST(Build, IdsOf64BitsAreRefused) {
  ModelConfig config;
  Binder::read(Document::parse(std::string("inputs: {tokens: {}}\nlayers:\n") + text_layers +
                                   "loss: {cross_entropy: {target: label}}\n",
                               "model.yaml"),
               config);
  std::vector<Field> wide = fields();
  wide[0].dtype = DType::i64;
  try {
    build_graph(config, wide, {});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), Exit::usage);
    EXPECT_STREQ(error.what(), "model.yaml:1:18: field 'tokens' holds int64 ids, expected int32; "
                               "shard the data again");
  }
}

TEST(Build, ShapesOfASentence) {
  const Graph g = graph_of(text_layers, "tokens: {}", "cross_entropy: {target: label}");
  ASSERT_EQ(g.inputs.size(), 2u);
  EXPECT_EQ(g.inputs[0].shape, Shape({9}));
  ASSERT_EQ(g.nodes.size(), 7u);   // two ingests, four layers, the loss
  const auto shape_of = [&](std::size_t n) { return g.values[static_cast<std::size_t>(g.nodes[n].out[0])].shape; };
  EXPECT_EQ(shape_of(2), Shape({9, 5}));
  EXPECT_EQ(shape_of(3), Shape({7, 6}));
  EXPECT_EQ(shape_of(4), Shape({6}));
  EXPECT_EQ(shape_of(5), Shape({4}));
  EXPECT_EQ(g.values[static_cast<std::size_t>(g.nodes[3].out[0])].shrink, 2);
  EXPECT_EQ(g.params[1].shape, Shape({6, 3, 5}));
  EXPECT_EQ(g.params[1].init_scale, 15);
  EXPECT_TRUE(g.params[0].sparse);
}

TEST(Build, FusesConvolutionAndPool) {
  const Graph g = fuse(graph_of(text_layers, "tokens: {}", "cross_entropy: {target: label}"));
  ASSERT_EQ(g.nodes.size(), 6u);
  EXPECT_TRUE(std::get<Conv1d>(g.nodes[3].op).max_over_time);
  EXPECT_EQ(g.values[static_cast<std::size_t>(g.nodes[3].out[0])].name, "m");
}

TEST(Build, NormalisesByStatistics) {
  const Graph g = graph_of("  - lstm: {units: 4, layers: 2}\n  - dense: {units: 1}\n",
                           "events: {normalize: standard, scale: 2}", "mse: {target: target}");
  const auto& op = std::get<Ingest>(g.nodes[0].op);
  EXPECT_EQ(op.mean, std::vector<double>({2, 4, 6}));
  EXPECT_EQ(op.inv_std, std::vector<double>({0.25, 1, 0.125}));
  EXPECT_EQ(g.params[0].shape, Shape({16, 3}));
  EXPECT_EQ(g.params[3].shape, Shape({16, 4}));
}

TEST(Build, ErrorsNameThePlaceAndTheWayOut) {
  const std::string loss = "mse: {target: target}";
  std::string text = error_of("  - dense: {units: 3}\n", "image: {}", loss);
  EXPECT_NE(text.find("model.yaml:3:"), std::string::npos) << text;
  EXPECT_NE(text.find("flatten"), std::string::npos) << text;
  EXPECT_NE(text.find("[8, 7, 3]"), std::string::npos) << text;
  text = error_of("  - dense: {from: evnts, units: 3}\n", "events: {}", loss);
  EXPECT_NE(text.find("did you mean 'events'"), std::string::npos) << text;
  text = error_of("  - lstm: {units: 3}\n  - dense: {units: 2}\n", "events: {}", loss);
  EXPECT_NE(text.find("[2]"), std::string::npos) << text;
  text = error_of("  - dense: {units: 2}\n", "tokens: {}", loss);
  EXPECT_NE(text.find("embedding"), std::string::npos) << text;
}

TEST(Init, DependsOnSeedAndNameAlone) {
  Param p;
  p.name = "a.weight";
  p.shape = {30, 40};
  p.init = Init::uniform_fan_in;
  p.init_scale = 16;
  const auto first = initial_values(p, 1);
  EXPECT_EQ(first, initial_values(p, 1));
  EXPECT_NE(first, initial_values(p, 2));
  double top = 0;
  for (float v : first) top = std::max(top, std::abs(static_cast<double>(v)));
  EXPECT_LE(top, 0.25);
  EXPECT_GT(top, 0.24);
}

TEST(LearningRate, WarmsUpThenFalls) {
  OptimizerConfig c;
  c.learning_rate = 2;
  c.warmup_steps = 4;
  c.schedule = "cosine";
  c.final_learning_rate = 0.5;
  EXPECT_DOUBLE_EQ(learning_rate_at(c, 0, 15), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate_at(c, 4, 15), 2);
  EXPECT_DOUBLE_EQ(learning_rate_at(c, 9, 15), 1.5);
  EXPECT_DOUBLE_EQ(learning_rate_at(c, 14, 15), 1);
}

TEST(LearningRate, DecayOfASparseTableIsRefused) {
  const Graph g = graph_of(text_layers, "tokens: {}", "cross_entropy: {target: label}");
  OptimizerConfig c;
  EXPECT_NO_THROW(check_optimizer(c, g));
  c.weight_decay = 0.1;
  EXPECT_THROW(check_optimizer(c, g), Error);
}

TEST(Average, OfASparseTableIsRefused) {
  Graph g = graph_of(text_layers, "tokens: {}", "cross_entropy: {target: label}");
  OptimizerConfig c;
  c.ema = 0.9;
  try {
    check_optimizer(c, g);
    FAIL() << "an average of a sparse embedding is taken";
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), Exit::usage);
    EXPECT_NE(std::string(e.what()).find("optimizer.ema"), std::string::npos) << e.what();
  }
  for (Param& param : g.params) param.frozen = true;
  EXPECT_NO_THROW(check_optimizer(c, g));
}

}  // namespace
}  // namespace cohort
