// Predictions against what evaluation says of the same run.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "app/commands.h"
#include "base/error.h"
#include "data/shard_command.h"
#include "data/shard_set.h"
#include "store/files.h"
#include "train/trainer.h"
#include "../../comm/thread_world.h"

namespace cohort {
namespace {

// A trained regression on three numbers; 23 rows of test in blocks of 4.
std::string train_small() {
  const std::string folder = testing::TempDir() + "score";
  real_files().remove(folder);
  real_files().make_folder(folder);
  for (const auto& [split, rows] : {std::pair{"train", 64}, {"test", 23}}) {
    std::string csv = "a,b,c,y\n";
    for (int i = 0; i < rows; ++i) {
      csv += fmt::format("{},{},{},{}\n", i % 5, i % 7 - 3, 0.5 * (i % 3), i % 5 - 0.25 * (i % 7));
    }
    std::ofstream(folder + "/" + split + ".csv") << csv;
  }
  std::ofstream(folder + "/recipe.yaml")
      << "root: " << folder << "\noutput: " << folder << "/set\nrows_per_block: 4\n"
      << "sources: [{path: train.csv}, {path: test.csv, split: test}]\n"
      << "fields: [{name: x, kind: number, columns: [a, b, c]}, {name: y}]\n";
  shard(folder + "/recipe.yaml", {});
  std::ofstream(folder + "/config.yaml")
      << "name: run\nruns: " << folder << "/runs\ndata: {shards: " << folder << "/set}\n"
      << "model:\n  inputs: {x: {}}\n"
      << "  layers: [{dense: {units: 6, activation: tanh}}, {dense: {units: 1}}]\n"
      << "  loss: {mse: {target: y}}\n"
      << "train: {global_batch: 16, epochs: 3, seed: 2}\n"
      << "device: {threads: 1}\n"
      << "optimizer: {name: adam, learning_rate: 0.01}\nmetrics: [mse, mae]\neval: {batch: 5}\n";
  const Experiment experiment = Experiment::load(folder + "/config.yaml", {});
  run_as_threads(1, [&](Communicator& c) {
    ThreadWorld world(c);
    EXPECT_EQ(train(world, experiment, RunMode::fresh), Exit::done);
  });
  return folder;
}

std::map<i64, float> targets(const std::string& path) {
  const auto set = ShardSet::open(path);
  std::map<i64, float> result;
  for (const Block& block : set->blocks("test")) {
    const Column column = set->read(block, 1);
    const std::vector<i64> ids = set->row_ids(block);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      std::memcpy(&result[ids[i]], column.values.data() + i * 4, 4);
    }
  }
  return result;
}

TEST(Score, PredictionsGiveTheMetricsOfEval) {
  const std::string folder = train_small();
  ScoreOptions options;
  options.run = folder + "/runs/run";
  options.checkpoint = "last";
  options.json = true;
  std::string first;
  for (int ranks : {1, 3}) {
    testing::internal::CaptureStdout();
    run_as_threads(ranks, [&](Communicator& c) {
      ThreadWorld world(c);
      EXPECT_EQ(run_eval(world, options), 0);
      EXPECT_EQ(run_predict(world, options), 0);
    });
    const auto report = nlohmann::json::parse(testing::internal::GetCapturedStdout());
    const std::string text = real_files().read(options.run + "/predictions/test.jsonl");
    if (first.empty()) first = text;
    EXPECT_EQ(text, first) << ranks;
    std::map<i64, float> left = targets(folder + "/set");
    ASSERT_EQ(report.at("rows"), left.size());
    double squares = 0, distances = 0;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      const auto row = nlohmann::json::parse(line);
      const i64 id = row.at("row").get<i64>();
      ASSERT_EQ(left.count(id), 1u) << line;
      const double error = row.at("prediction").at(0).get<double>() - left.at(id);
      squares += error * error;
      distances += std::abs(error);
      left.erase(id);
    }
    EXPECT_TRUE(left.empty());
    const auto& metrics = report.at("metrics");
    EXPECT_NEAR(metrics.at("mse").get<double>(), squares / 23, 1e-12);
    EXPECT_NEAR(metrics.at("mae").get<double>(), distances / 23, 1e-12);
  }
}

TEST(Score, WhatIsNotThereIsNamed) {
  run_as_threads(1, [](Communicator& c) {
    ThreadWorld world(c);
    ScoreOptions options;
    options.run = testing::TempDir() + "no_such_run";
    EXPECT_THROW(run_eval(world, options), Error);
    EXPECT_THROW(run_predict(world, options), Error);
  });
}

}  // namespace
}  // namespace cohort
