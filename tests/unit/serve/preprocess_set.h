// Shard sets made from small raw files, and graphs that read them.
#pragma once
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "data/eval_reader.h"
#include "data/shard_command.h"
#include "data/shard_set.h"
#include "model/graph.h"
#include "serve/preprocess.h"

namespace cohort {

// A folder of the running test's own, empty.
inline std::string test_folder() {
  const auto* info = testing::UnitTest::GetInstance()->current_test_info();
  const std::string folder =
      testing::TempDir() + "serve_" + info->test_suite_name() + "_" + info->name();
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

inline void put_file(const std::string& path, const std::string& bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

// `recipe`: what follows root and output.
inline std::shared_ptr<ShardSet> make_set(const std::string& folder, const std::string& recipe) {
  put_file(folder + "/r.yaml", "root: " + folder + "\noutput: " + folder + "/set\n" + recipe);
  shard(folder + "/r.yaml", {});
  return ShardSet::open(folder + "/set");
}

// All fields as inputs, the last of them the target; sequences cut to `max_length` unless 0.
inline Graph graph_of(const ShardSet& set, i64 max_length = 0) {
  Graph graph;
  for (const Field& field : set.fields()) {
    Input input{field.name, field.dtype, field.shape, field.ragged, 0,
                static_cast<i64>(graph.values.size())};
    if (field.ragged) {
      input.max_length = max_length > 0 ? max_length : std::max<i64>(field.stats.max_length, 1);
      input.shape.insert(input.shape.begin(), input.max_length);
    }
    Ingest ingest;
    if (!field.stats.mean.empty()) {
      ingest.mean = field.stats.mean;
      for (const double spread : field.stats.stddev) {
        ingest.inv_std.push_back(spread > 0 ? 1 / spread : 1);
      }
    }
    graph.values.push_back({field.name, input.shape, field.classes > 0, -1, 0});
    graph.nodes.push_back({field.name, ingest, {}, {input.value}, {}, ""});
    graph.inputs.push_back(input);
  }
  graph.target = static_cast<i64>(graph.values.size()) - 1;
  graph.nodes.push_back({"loss", Loss{}, {0, graph.target}, {}, {}, ""});
  return graph;
}

// Bytes of row `row` of a column, and its length.
inline std::string row_of(const Batch& batch, std::size_t column, i64 row) {
  const BatchColumn& from = batch.columns[column];
  const std::size_t stride = from.data.size() / static_cast<std::size_t>(batch.capacity);
  const auto begin = from.data.begin() + row * static_cast<i64>(stride);
  std::string bytes(begin, begin + static_cast<i64>(stride));
  if (!from.lengths.empty()) {
    bytes += "#" + std::to_string(from.lengths[static_cast<std::size_t>(row)]);
  }
  return bytes;
}

}  // namespace cohort
