#include "train/experiment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace cohort {
namespace {

using ::testing::HasSubstr;

const char* const kText = R"(name: toy
data: {shards: data/toy}
model:
  inputs: {image: {scale: 0.5}}
  layers:
    - flatten: {}
    - dense: {units: classes}
  loss: {cross_entropy: {target: label}}
train: {global_batch: 12, epochs: 3}
metrics: [accuracy]
)";

std::string error_of(const std::string& text) {
  try {
    Experiment::parse(Document::parse(text, "toy.yaml"));
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), Exit::usage);
    return e.what();
  }
  return "";
}

std::string with(std::string from, const std::string& to) {
  std::string text = kText;
  return text.replace(text.find(from), from.size(), to);
}

TEST(Experiment, TheResolvedTextReadsBackEqual) {
  const Experiment e = Experiment::parse(Document::parse(kText, "toy.yaml"));
  EXPECT_EQ(e.train.global_batch, 12);
  EXPECT_EQ(e.train.epochs, 3);
  EXPECT_EQ(e.runs, "runs");
  EXPECT_EQ(e.metrics, (std::vector<std::string>{"accuracy"}));
  ASSERT_EQ(e.model.layers.size(), 2u);
  const std::string resolved = e.text();
  const Experiment again = Experiment::parse(Document::parse(resolved, "resolved.yaml"));
  EXPECT_EQ(again.text(), resolved);
  EXPECT_THAT(resolved, HasSubstr("keep_last"));
}

TEST(Experiment, OverridesWin) {
  Document document = Document::parse(kText, "toy.yaml");
  document.override_key("train.epochs=9");
  document.override_key("optimizer.learning_rate=0.5");
  const Experiment e = Experiment::parse(document);
  EXPECT_EQ(e.train.epochs, 9);
  EXPECT_EQ(e.optimizer.learning_rate, 0.5);
}

TEST(Experiment, MistakesAreNamedWithTheirPlace) {
  EXPECT_THAT(error_of(with("epochs: 3", "epoch: 3")),
              ::testing::AllOf(HasSubstr("toy.yaml:9:"), HasSubstr("epochs")));
  EXPECT_THAT(error_of(with("epochs: 3", "epochs: 0")), HasSubstr("train.epochs"));
  EXPECT_THAT(error_of(with("name: toy\n", "")), HasSubstr("name"));
  EXPECT_THAT(error_of(with("global_batch: 12", "seed: 1")), HasSubstr("exactly one"));
  EXPECT_THAT(error_of(with("global_batch: 12", "global_batch: 12, batch_per_rank: 3")),
              HasSubstr("exactly one"));
}

TEST(Experiment, TheBatchOfAJob) {
  Experiment e;
  e.train.global_batch = 7;
  EXPECT_EQ(e.global_batch(7), 7);
  EXPECT_THROW(e.global_batch(8), Error);
  e.train.global_batch = 0;
  e.train.batch_per_rank = 5;
  EXPECT_EQ(e.global_batch(3), 15);
}

}  // namespace
}  // namespace cohort
