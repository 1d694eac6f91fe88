#include "app/compare.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "../train/memory_files.h"
#include "app/inspect.h"
#include "app/table.h"

namespace cohort {
namespace {

void put(MemoryFiles& files, const std::string& path, const std::string& text) {
  files.create(path)->write(text.data(), static_cast<i64>(text.size()));
}

void put_run(MemoryFiles& files, const std::string& run, const std::string& rate,
             const std::string& lines) {
  files.make_folder(run);
  put(files, run + "/run.json", R"({"outcome":"done"})");
  put(files, run + "/config.yaml",
      "name: x\noptimizer:\n  name: adam\n  learning_rate: " + rate +
          "\ntrain:\n  epochs: 3\nmetrics:\n  - accuracy\n  - auc\n");
  put(files, run + "/metrics.jsonl", lines);
}

std::string eval(int step, const std::string& metrics) {
  return R"({"kind":"eval","step":)" + std::to_string(step) +
         R"(,"epoch":0,"split":"validation","rows":9,"metrics":)" + metrics + "}\n";
}

TEST(Compare, ConfigDifferencesAndBestValues) {
  MemoryFiles files;
  put_run(files, "a", "0.1",
          eval(1, R"({"accuracy":0.5,"mse":3})") + eval(2, R"({"accuracy":0.75,"mse":1})") +
              eval(3, R"({"accuracy":0.625,"mse":2})"));
  put_run(files, "b", "0.2", eval(1, R"({"accuracy":null})") + "{\"kind\":\"ev");
  const auto report = compare_runs(files, {"a", "b"});
  ASSERT_EQ(report["config"].size(), 1u) << report["config"];
  EXPECT_EQ(report["config"]["optimizer.learning_rate"], (nlohmann::json{"0.1", "0.2"}));
  const auto& accuracy = report["metrics"]["validation/accuracy"];
  EXPECT_EQ(accuracy[0]["final"], 0.625);
  EXPECT_EQ(accuracy[0]["best"], 0.75);
  EXPECT_EQ(accuracy[0]["best_step"], 2);
  EXPECT_TRUE(accuracy[1]["final"].is_null());
  EXPECT_EQ(report["metrics"]["validation/mse"][0]["best"], 1);
  EXPECT_TRUE(report["metrics"]["validation/mse"][1].is_null());
}

TEST(Compare, OnlyRunsCanBeCompared) {
  MemoryFiles files;
  files.make_folder("x");
  EXPECT_THROW(compare_runs(files, {"x", "x"}), Error);
}

TEST(Inspect, KnowsWhatAPathIs) {
  MemoryFiles files;
  put_run(files, "runs", "0.1", "");
  files.make_folder("runs/checkpoints/step-000000000005");
  files.make_folder("set");
  put(files, "set/manifest.json", "{}");
  put(files, "c.yaml", "");
  files.make_folder("other");
  EXPECT_EQ(kind_of_path(files, "runs"), PathKind::run);
  EXPECT_EQ(kind_of_path(files, "runs/checkpoints/step-000000000005"), PathKind::checkpoint);
  EXPECT_EQ(kind_of_path(files, "set"), PathKind::shard_set);
  EXPECT_EQ(kind_of_path(files, "c.yaml"), PathKind::config);
  EXPECT_THROW(kind_of_path(files, "other"), Error);
  EXPECT_THROW(kind_of_path(files, "missing"), Error);
}

TEST(Table, AlignsNumbersRight) {
  EXPECT_EQ(format_table({{"a", "n"}, {"long", "5"}, {"b", "12.5"}, {"c", "-"}}),
            "a        n\nlong     5\nb     12.5\nc        -\n");
}

}  // namespace
}  // namespace cohort
