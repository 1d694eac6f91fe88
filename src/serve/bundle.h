// A trained model to serve: a folder that is whole or refused (docs/bundle.md).
#pragma once
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "data/shard_set.h"
#include "model/graph.h"
#include "model/model_config.h"
#include "serve/item_index.h"
#include "serve/preprocess.h"
#include "serve/tower_rows.h"
#include "serve/towers.h"
#include "store/files.h"
#include "tensor/tensor.h"

namespace cohort {

// Where a bundle came from; in manifest.json as "lineage".
struct Lineage {
  std::string run, config, build, data;       // run folder, resolved YAML, build_id, fingerprint
  i64 step = 0;
  std::vector<std::pair<std::string, double>> metrics;   // of the exported weights, on `split`
  std::string split;
};

// A row with the trainer's answer: golden.jsonl, one object a line.
struct GoldenRow {
  std::string raw;                            // the raw row, JSON
  i64 row_id = 0;
  std::vector<double> output, probabilities;  // as Answer
};

// What a bundle is written from.
struct BundleContent {
  const ModelConfig* model = nullptr;
  const Graph* graph = nullptr;               // of that model, fused
  std::vector<NamedView> weights;             // all parameters, running statistics too; no slots
  const Preprocess* preprocess = nullptr;
  std::vector<GoldenRow> golden;
  std::vector<std::string> labels;            // of a classifier, by index
  Lineage lineage;
  i64 opset = 13;
  i64 inline_model = i64{3} << 29;            // bytes; see OnnxOptions
  i64 inline_tensor = 1024;
  std::shared_ptr<ShardSet> shards;           // two towers: the rows of users and items
};

// Writes it aside, opens it, scores golden.jsonl (see check_golden), and only then renames it to
// `folder`, which must not exist. Returns the root digest: SHA-256 of manifest.json, hex, as in
// MANIFEST.sha256. Exit::storage; nothing is left behind then.
std::string write_bundle(Files& files, const std::string& folder, const BundleContent& content);

// What a bundle of a two-tower model holds beside.
struct TowerData {
  TwoTowers towers;
  Graph user, item;                           // each tower alone: see part_of()
  TowerRows users, items;                     // stored features, by id
  View vectors;                               // f32 [items, dim]; of items without a row: zeros
  std::unique_ptr<ItemIndex> index;           // of the items that have a row
  std::vector<std::string> user_names, item_names;   // by id; empty: the ids are the names
};

class Bundle {
 public:
  // Checks MANIFEST.sha256, every checksum, and that no file is missing or too many: Exit::storage
  // naming the file. `most_pixels`: see Preprocess::limit_pixels().
  static std::shared_ptr<const Bundle> open(Files& files, const std::string& folder,
                                            i64 most_pixels = i64{1} << 26);
  virtual ~Bundle() = default;
  virtual const std::string& folder() const = 0;
  virtual const std::string& digest() const = 0;
  virtual const Graph& graph() const = 0;     // fused
  virtual const std::vector<NamedView>& weights() const = 0;
  virtual const Preprocess& preprocess() const = 0;
  virtual const std::vector<GoldenRow>& golden() const = 0;
  virtual const std::vector<std::string>& labels() const = 0;
  virtual const nlohmann::json& manifest() const = 0;
  virtual const TowerData* towers() const = 0;   // null: not a two-tower model
};

}  // namespace cohort
