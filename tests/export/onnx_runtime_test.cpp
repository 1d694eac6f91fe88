// Exported models by ONNX Runtime: 1e-5 on probabilities, 1e-4 of the largest on logits.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "onnx_case.h"

namespace cohort::testing {
namespace {

class OnnxRuntimeTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!std::getenv("COHORT_TEST_PYTHON")) GTEST_SKIP() << "COHORT_TEST_PYTHON is not set";
    folder_ = std::filesystem::path(::testing::TempDir()) / ("cohort-onnx-" + GetParam());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override {
    if (!folder_.empty() && !HasFailure()) std::filesystem::remove_all(folder_);
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string write_model(const std::string& name, const OnnxModel& model) const {
    std::ofstream(path(name), std::ios::binary) << model.bytes;
    if (!model.external.empty()) {
      const auto out = real_files().create(path(model.data_file));
      write_onnx_data(*out, model);
      out->close();
      check_onnx_file(path(name));
    }
    return " \"" + path(name) + "\"";
  }
  // run_onnx.py's exit status.
  int run(const std::string& arguments) const {
    const auto script = std::filesystem::path(__FILE__).parent_path() / "run_onnx.py";
    const int status = std::system(fmt::format("\"{}\" \"{}\" \"{}\" {}",
                                               std::getenv("COHORT_TEST_PYTHON"), script.string(),
                                               path("rows.safetensors"), arguments).c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  std::filesystem::path folder_;
};

constexpr int without_runtime = 77;

TEST_P(OnnxRuntimeTest, AnswersAsTheReferenceDevice) {
  std::string models;
  for (bool fused : {false, true}) {
    const OnnxCase c(GetParam(), fused);
    write_rows(c, path("rows.safetensors"));
    for (i64 opset : {13, 17}) {
      OnnxOptions options = c.options;
      options.opset = opset;
      models += write_model(fmt::format("{}{}.onnx", fused ? "fused" : "plain", opset),
                            to_onnx(c.graph, c.weights, options));
    }
  }
  const int status = run(models);
  if (status == without_runtime) GTEST_SKIP() << "the Python has no onnxruntime";
  EXPECT_EQ(status, 0);
}

// The same weights in a file of their own: the very same numbers.
TEST_P(OnnxRuntimeTest, AnswersAlikeWithItsWeightsInADataFile) {
  const OnnxCase c(GetParam(), true);
  write_rows(c, path("rows.safetensors"));
  OnnxOptions options = c.options;
  const OnnxModel inside = to_onnx(c.graph, c.weights, options);
  options.file = "beside.onnx";
  options.inline_model = -1;
  options.inline_tensor = 15;
  const OnnxModel beside = to_onnx(c.graph, c.weights, options);
  EXPECT_TRUE(inside.external.empty());
  ASSERT_FALSE(beside.external.empty());
  const int status = run("--alike" + write_model("inside.onnx", inside) +
                         write_model("beside.onnx", beside));
  if (status == without_runtime) GTEST_SKIP() << "the Python has no onnxruntime";
  EXPECT_EQ(status, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, OnnxRuntimeTest, ::testing::ValuesIn(exported_names()),
                         [](const auto& test) { return test_name(test.param); });

class OnnxTowersTest : public OnnxRuntimeTest {};

TEST_P(OnnxTowersTest, TowersAndScorerAnswerAsTheWhole) {
  for (bool fused : {false, true}) {
    const OnnxCase c(GetParam(), fused);
    write_rows(c, path("rows.safetensors"));
    const auto towers = towers_of(c.graph);
    ASSERT_TRUE(towers);
    OnnxOptions options;
    options.inline_model = fused ? -1 : options.inline_model;
    options.inline_tensor = 15;
    const TowerModels models = to_onnx_towers(c.graph, *towers, c.weights, options);
    EXPECT_EQ(models.user.external.empty(), !fused);
    EXPECT_EQ(models.item.external.empty(), !fused);
    const int status =
        run("--towers" + write_model("user_tower.onnx", models.user) +
            write_model("item_tower.onnx", models.item) +
            write_model("scorer.onnx", models.scorer));
    if (status == without_runtime) GTEST_SKIP() << "the Python has no onnxruntime";
    EXPECT_EQ(status, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, OnnxTowersTest, ::testing::Values("recommend-two-tower"),
                         [](const auto& test) { return test_name(test.param); });

}  // namespace
}  // namespace cohort::testing
