// What an exported model declares, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/text.h"
#include "onnx_case.h"

namespace cohort::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> described(const std::vector<OnnxTensor>& tensors) {
  std::vector<std::string> lines;
  for (const OnnxTensor& t : tensors)
    lines.push_back(fmt::format("{} {} {}", t.name, name_of(t.dtype), join(t.dims, ",")));
  return lines;
}

template <class Make>
std::string error_of(Exit expected, Make make) {
  try {
    make();
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), expected);
    return e.what();
  }
  return "";
}

TEST(OnnxModel, InputsAreFieldsAndOutputsFollowTheLoss) {
  const OnnxCase words("sentiment-cnn", true);
  const OnnxModel model = to_onnx(words.graph, words.weights);
  EXPECT_THAT(described(model.inputs), ElementsAre("tokens int32 N,T", "tokens_lengths int32 N"));
  EXPECT_THAT(described(model.outputs),
              ElementsAre("logits float32 N,2", "probabilities float32 N,2"));
  const OnnxCase two("steps-two-fields", true);
  EXPECT_THAT(described(to_onnx(two.graph, two.weights).inputs),
              ElementsAre("tokens int32 N,T_tokens", "tokens_lengths int32 N",
                          "events float32 N,T_events,3", "events_lengths int32 N"));
  const OnnxCase towers("recommend-two-tower", false);
  EXPECT_THAT(described(to_onnx(towers.graph, towers.weights).outputs),
              ElementsAre("logit float32 N,1", "probability float32 N,1"));
  const OnnxCase steps("steps-answers", false);
  EXPECT_THAT(described(to_onnx(steps.graph, steps.weights).outputs),
              ElementsAre("prediction float32 N,1"));
  const OnnxCase image("image-cnn", false);
  EXPECT_THAT(described(to_onnx(image.graph, image.weights).inputs),
              ElementsAre("image uint8 N,5,6,2"));
}

TEST(OnnxModel, EqualArgumentsGiveEqualBytes) {
  const OnnxCase a("image-resnet", true), b("image-resnet", true);
  EXPECT_EQ(to_onnx(a.graph, a.weights).bytes, to_onnx(b.graph, b.weights).bytes);
  EXPECT_NE(to_onnx(a.graph, a.weights, {13, "1"}).bytes,
            to_onnx(a.graph, a.weights, {13, "2"}).bytes);
}

TEST(OnnxModel, TheOrderOfWeightsAndMoreOfThemChangeNothing) {
  OnnxCase c("behavior-gru", true);
  const std::string expected = to_onnx(c.graph, c.weights).bytes;
  std::reverse(c.weights.begin(), c.weights.end());
  c.weights.push_back({"optimizer/0/x", c.weights[0].view});
  EXPECT_EQ(to_onnx(c.graph, c.weights).bytes, expected);
}

TEST(OnnxModel, OtherOpsetsAndWrongWeightsAreRefused) {
  OnnxCase c("recommend-mlp", false);
  EXPECT_THAT(error_of(Exit::usage, [&] { to_onnx(c.graph, c.weights, {18, ""}); }),
              HasSubstr("13 or 17, got 18"));
  c.weights[0].view.shape = {5, 6};
  EXPECT_THAT(error_of(Exit::storage, [&] { to_onnx(c.graph, c.weights); }),
              HasSubstr("expected shape [6, 5], got [5, 6]"));
  c.weights[0].name = "other";
  EXPECT_THAT(error_of(Exit::storage, [&] { to_onnx(c.graph, c.weights); }),
              HasSubstr("no weight '" + c.graph.params[0].name + "'"));
}

TEST(OnnxModel, AFieldOfTheNameOfAnOutputIsRefused) {
  OnnxCase c("recommend-mlp", false);
  c.graph.inputs[0].field = "logits";
  EXPECT_THAT(error_of(Exit::usage, [&] { to_onnx(c.graph, c.weights); }), HasSubstr("'logits'"));
}

// A model of a table that is nowhere: weights of the data file are read when that is written.
struct Large : OnnxCase {
  Large() : OnnxCase("recommend-two-tower", true) {
    for (Node& node : graph.nodes) {
      auto* op = std::get_if<Embedding>(&node.op);
      if (op && node.params.at(0) == 0) op->rows = rows;
    }
    graph.params[0].shape[0] = rows;
    weights[0].view = {nullptr, DType::f32, graph.params[0].shape};
  }
  static constexpr i64 rows = i64{1} << 30;
};

TEST(OnnxModel, MoreThanTwoGibibytesGoToADataFileByThemselves) {
  const Large c;
  OnnxOptions options;
  options.inline_tensor = 15;
  const OnnxModel model = to_onnx(c.graph, c.weights, options);
  EXPECT_LT(model.bytes.size(), 10000u);
  EXPECT_EQ(model.data_file, "model.onnx.data");
  ASSERT_GE(model.external.size(), 2u);
  i64 end = 0;
  bool beyond = false;   // 32 bits of offset
  for (const OnnxExternal& weight : model.external) {
    EXPECT_EQ(weight.offset % (weight.bytes < (1 << 20) ? 4096 : 65536), 0) << weight.name;
    EXPECT_GE(weight.offset, end);
    end = weight.offset + weight.bytes;
    beyond = beyond || weight.offset > (i64{1} << 32);
  }
  EXPECT_TRUE(beyond);
  EXPECT_EQ(model.external[0].bytes, (Large::rows + 1) * 3 * 4);
  const Towers towers = *towers_of(c.graph);   // the other tower has no part in it
  EXPECT_TRUE(to_onnx_part(c.graph, c.weights, {{}, {{towers.item, "vector"}}}).external.empty());
}

TEST(OnnxModel, MoreThanTwoGibibytesInOneFileAreRefused) {
  const Large c;
  OnnxOptions options;
  options.inline_model = i64{1} << 40;
  const std::string error = error_of(Exit::usage, [&] { to_onnx(c.graph, c.weights, options); });
  EXPECT_THAT(error, HasSubstr("got 128849"));
  EXPECT_THAT(error, HasSubstr("in '" + c.graph.params[0].name + "' [1073741824, 3]"));
}

TEST(OnnxModel, DataFilesThatDoNotFitAreRefused) {
  const OnnxCase c("recommend-mlp", true);
  OnnxOptions options;
  options.inline_model = -1;
  options.inline_tensor = 15;
  const OnnxModel model = to_onnx(c.graph, c.weights, options);
  const std::string folder = ::testing::TempDir() + "cohort-onnx-data";
  real_files().make_folder(folder);
  const std::string path = folder + "/model.onnx";
  const auto write = [&](const std::string& name, const std::string& bytes) {
    const auto out = real_files().create(folder + "/" + name);
    out->write(bytes.data(), static_cast<i64>(bytes.size()));
    out->close();
  };
  write("model.onnx", model.bytes);
  EXPECT_THAT(error_of(Exit::storage, [&] { check_onnx_file(path); }),
              HasSubstr("model.onnx.data"));
  const auto out = real_files().create(path + ".data");
  write_onnx_data(*out, model);
  out->close();
  EXPECT_NO_THROW(check_onnx_file(path));
  const std::string data = real_files().read(path + ".data");
  write("model.onnx.data", data.substr(0, data.size() - 1));
  EXPECT_THAT(error_of(Exit::storage, [&] { check_onnx_file(path); }),
              HasSubstr(fmt::format("expected {} bytes", data.size())));
  real_files().remove(folder);
}

TEST(OnnxTowers, AreFoundWhereTheFieldsAreApart) {
  const OnnxCase c("recommend-two-tower", true);
  const auto towers = towers_of(c.graph);
  ASSERT_TRUE(towers);
  EXPECT_EQ(c.graph.values[static_cast<std::size_t>(towers->user)].name, "user_vector");
  EXPECT_EQ(c.graph.values[static_cast<std::size_t>(towers->item)].name, "item_vector");
  EXPECT_THAT(towers->user_inputs, ElementsAre(0, 2));
  EXPECT_THAT(towers->item_inputs, ElementsAre(1, 3));
  const TowerModels models = to_onnx_towers(c.graph, *towers, c.weights);
  EXPECT_THAT(described(models.user.inputs),
              ElementsAre("user int32 N", "user_features float32 N,2"));
  EXPECT_THAT(described(models.user.outputs), ElementsAre("vector float32 N,4"));
  EXPECT_THAT(described(models.scorer.inputs),
              ElementsAre("user_vector float32 N,4", "item_vector float32 N,4"));
  EXPECT_THAT(described(models.scorer.outputs),
              ElementsAre("logit float32 N,1", "probability float32 N,1"));
}

TEST(OnnxTowers, AreNoneWhereAFieldIsShared) {
  EXPECT_FALSE(towers_of(OnnxCase("recommend-mlp", true).graph));
  const std::string model =
      "inputs: {a: {}, b: {}}\n"
      "layers:\n"
      "  - dense: {name: x, from: a, units: 2}\n"
      "  - dense: {name: y, from: b, units: 2}\n"
      "  - dot: {name: d, from: [x, y]}\n";
  std::vector<Field> fields(3);
  for (std::size_t k = 0; k < 3; ++k) {
    fields[k].name = std::string(1, static_cast<char>('a' + k));
    fields[k].shape = {k == 2 ? 1 : 2};
  }
  EXPECT_TRUE(towers_of(graph_from(model + "loss: {bce: {target: c}}\n", fields, false)));
  const std::string around = model + "  - concat: {from: [d, a]}\n  - dense: {units: 1}\n"
                                     "loss: {bce: {target: c}}\n";
  EXPECT_FALSE(towers_of(graph_from(around, fields, false)));
  std::string shared = model + "loss: {bce: {target: c}}\n";
  shared.replace(shared.find("from: b"), 7, "from: a");
  EXPECT_FALSE(towers_of(graph_from(shared, fields, false)));
}

}  // namespace
}  // namespace cohort::testing
