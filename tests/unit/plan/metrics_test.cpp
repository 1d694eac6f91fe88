#include "plan/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "base/error.h"
#include "base/rng.h"

namespace cohort {
namespace {

struct Case {
  MetricSpec spec;
  i64 rows = 0;
  std::vector<double> prediction, target;
};

MetricValues score(const Case& c) {
  MetricBlock block(c.spec);
  block.add({c.rows, 1, c.prediction.data(), c.target.data(), nullptr});
  return merge_metrics(c.spec, {block.bytes(0)});
}

double value(const MetricValues& values, const std::string& name) {
  for (const auto& [key, number] : values) {
    if (key == name) return number;
  }
  ADD_FAILURE() << "no metric " << name;
  return 0;
}

// Scores with many ties, every kind of loss.
Case random_case(LossKind loss, i64 rows, u64 seed) {
  Case c;
  c.spec.loss = loss;
  c.spec.width = loss == LossKind::mse ? 3 : loss == LossKind::bce ? 1 : 5;
  c.spec.names = known_metrics(loss);
  c.rows = rows;
  Stream random(seed);
  for (i64 i = 0; i < rows * c.spec.width; ++i) {
    c.prediction.push_back(std::round(random.normal() * 8) / 8);
  }
  const i64 targets = loss == LossKind::mse ? rows * 3 : rows;
  for (i64 i = 0; i < targets; ++i) {
    if (loss == LossKind::mse) c.target.push_back(random.normal());
    if (loss == LossKind::bce) c.target.push_back(static_cast<double>(random.below(2)));
    if (loss == LossKind::cross_entropy) c.target.push_back(static_cast<double>(random.below(4)));
  }
  return c;
}

TEST(Metrics, RegressionByHand) {
  const Case c{{LossKind::mse, 2, {"mse", "rmse", "mae"}}, 2, {1, 2, 3, 4}, {0, 4, 3, 7}};
  const MetricValues values = score(c);
  EXPECT_DOUBLE_EQ(value(values, "mse"), (1 + 4 + 0 + 9) / 4.0);
  EXPECT_DOUBLE_EQ(value(values, "rmse"), std::sqrt(3.5));
  EXPECT_DOUBLE_EQ(value(values, "mae"), 6 / 4.0);
}

TEST(Metrics, BinaryByHand) {
  // Scores 0.1 (neg), 0.4 (neg), 0.35 (pos), 0.8 (pos): the classic example, AUC 0.75.
  const Case c{{LossKind::bce, 1, {"accuracy", "macro_f1", "log_loss", "auc"}},
               4,
               {0.1, 0.4, 0.35, 0.8},
               {0, 0, 1, 1}};
  const MetricValues values = score(c);
  EXPECT_EQ(value(values, "auc"), 0.75);
  EXPECT_EQ(value(values, "accuracy"), 0.5);
  EXPECT_DOUBLE_EQ(value(values, "macro_f1"), (2.0 / 3) / 2);   // class 0: 0, class 1: 2*2/(4+2)
  const double expected = -(std::log(1 - 1 / (1 + std::exp(-0.1))) +
                            std::log(1 - 1 / (1 + std::exp(-0.4))) +
                            std::log(1 / (1 + std::exp(-0.35))) +
                            std::log(1 / (1 + std::exp(-0.8)))) / 4;
  EXPECT_NEAR(value(values, "log_loss"), expected, 1e-15);
}

TEST(Metrics, AucCountsTiesHalfAndIsUndefinedForOneClass) {
  const MetricSpec spec{LossKind::bce, 1, {"auc"}};
  EXPECT_EQ(value(score({spec, 4, {1, 1, 1, 1}, {0, 1, 0, 1}}), "auc"), 0.5);
  EXPECT_EQ(value(score({spec, 3, {1, 1, 2}, {0, 1, 1}}), "auc"), 0.75);
  EXPECT_EQ(value(score({spec, 3, {0.0, -0.0, 1}, {0, 1, 1}}), "auc"), 0.75);
  EXPECT_TRUE(std::isnan(value(score({spec, 2, {1, 2}, {1, 1}}), "auc")));
  EXPECT_TRUE(std::isnan(value(score({spec, 2, {1, std::nan("")}, {1, 0}}), "auc")));
}

TEST(Metrics, ClassesByHandWithIgnoredTargets) {
  const Case c{{LossKind::cross_entropy, 3, {"accuracy", "macro_f1", "log_loss"}},
               4,
               {2, 0, 0, /**/ 0, 5, 5, /**/ 1, 1, 1, /**/ 9, 9, 9},
               {0, 2, 0, -1}};
  const MetricValues values = score(c);
  EXPECT_DOUBLE_EQ(value(values, "accuracy"), 2.0 / 3);   // ties: the first largest
  EXPECT_DOUBLE_EQ(value(values, "macro_f1"), (1.0 + 0 + 0) / 3);
  const double expected = (std::log(1 + 2 * std::exp(-2)) +
                           std::log(2 + std::exp(-5)) + std::log(3)) / 3;
  EXPECT_NEAR(value(values, "log_loss"), expected, 1e-15);
}

TEST(Metrics, LargeLogitsStayFinite) {
  EXPECT_DOUBLE_EQ(value(score({{LossKind::bce, 1, {"log_loss"}}, 2, {-1e4, 800}, {1, 1}}),
                         "log_loss"), 5000);
  EXPECT_DOUBLE_EQ(value(score({{LossKind::cross_entropy, 2, {"log_loss"}}, 1, {-1e4, 1e4}, {0}}),
                         "log_loss"), 2e4);
}

TEST(Metrics, StepsBeyondTheLengthDoNotCount) {
  const double nan = std::nan("");
  const double prediction[] = {1, 2, nan, /**/ 4, nan, nan, /**/ nan, nan, nan};
  const double target[] = {0, 0, nan, /**/ 0, nan, nan, /**/ nan, nan, nan};
  const i32 lengths[] = {2, 1, 0};
  const MetricSpec spec{LossKind::mse, 1, {"mse"}};
  MetricBlock block(spec);
  block.add({3, 3, prediction, target, lengths});
  EXPECT_DOUBLE_EQ(value(merge_metrics(spec, {block.bytes(0)}), "mse"), (1 + 4 + 16) / 3.0);
}

TEST(Metrics, AnyDealingOfBlocksToRanksGivesTheSameBits) {
  for (const LossKind loss : {LossKind::mse, LossKind::bce, LossKind::cross_entropy}) {
    const Case c = random_case(loss, 1003, 11);
    const i64 size = 64, blocks = (c.rows + size - 1) / size;
    const i64 target_width = loss == LossKind::mse ? c.spec.width : 1;
    std::vector<std::string> states;
    for (i64 b = 0; b < blocks; ++b) {
      MetricBlock block(c.spec);
      const i64 first = b * size, rows = std::min(size, c.rows - first), half = rows / 3;
      // A block may be added in pieces.
      for (const auto& [at, n] : {std::pair{first, half}, std::pair{first + half, rows - half}}) {
        block.add({n, 1, c.prediction.data() + at * c.spec.width,
                   c.target.data() + at * target_width, nullptr});
      }
      states.push_back(block.bytes(b));
    }
    const MetricValues one = merge_metrics(c.spec, states);
    for (i64 ranks = 1; ranks <= blocks + 1; ++ranks) {
      for (const bool striped : {true, false}) {
        std::vector<std::string> gathered(static_cast<std::size_t>(ranks));
        for (i64 b = blocks - 1; b >= 0; --b) {
          const i64 rank = striped ? b % ranks : b * ranks / blocks;
          gathered[static_cast<std::size_t>(rank)] += states[static_cast<std::size_t>(b)];
        }
        const MetricValues many = merge_metrics(c.spec, gathered);
        ASSERT_EQ(many.size(), one.size());
        for (std::size_t i = 0; i < one.size(); ++i) {
          EXPECT_EQ(std::memcmp(&one[i].second, &many[i].second, 8), 0) << one[i].first;
        }
      }
    }
    EXPECT_THROW(merge_metrics(c.spec, {states[0], states[2]}), std::logic_error);
    EXPECT_THROW(merge_metrics(c.spec, {states[0], states[0]}), std::logic_error);
    EXPECT_THROW(merge_metrics(c.spec, {states[0].substr(0, 20)}), std::logic_error);
  }
}

TEST(Metrics, AMisspeltNameIsAnErrorWithTheNearest) {
  try {
    check_metrics({LossKind::bce, 1, {"acuracy"}});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), Exit::usage);
    EXPECT_THAT(e.what(), ::testing::HasSubstr("did you mean \"accuracy\""));
  }
  EXPECT_THROW(check_metrics({LossKind::mse, 1, {"auc"}}), Error);
}

void write_array(std::ostream& out, const std::vector<double>& values) {
  out << "[";
  for (std::size_t i = 0; i < values.size(); ++i) out << (i ? "," : "") << values[i];
  out << "]";
}

TEST(Metrics, ScikitLearnAgrees) {
  const char* python = std::getenv("COHORT_TEST_PYTHON");
  if (!python) GTEST_SKIP() << "COHORT_TEST_PYTHON is not set";
  const std::string path = ::testing::TempDir() + "/cohort-metrics.json";
  {
    std::ofstream out(path);
    out.precision(17);
    out << "[";
    const char* kinds[] = {"mse", "bce", "cross_entropy"};
    for (int k = 0; k < 3; ++k) {
      const Case c = random_case(static_cast<LossKind>(k), 777, 5);
      out << (k ? "," : "") << "{\"loss\":\"" << kinds[k] << "\",\"width\":" << c.spec.width
          << ",\"prediction\":";
      write_array(out, c.prediction);
      out << ",\"target\":";
      write_array(out, c.target);
      for (const auto& [name, number] : score(c)) out << ",\"" << name << "\":" << number;
      out << "}";
    }
    out << "]";
  }
  const auto script = std::filesystem::path(__FILE__).parent_path() / "check_metrics.py";
  const std::string command =
      "\"" + std::string(python) + "\" \"" + script.string() + "\" \"" + path + "\"";
  EXPECT_EQ(std::system(command.c_str()), 0);
}

}  // namespace
}  // namespace cohort
