// A trained model to serve: a folder that is whole or refused (docs/bundle.md).
#pragma once
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "model/graph.h"
#include "serve/preprocess.h"
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
  const Graph* graph = nullptr;
  std::vector<NamedView> weights;             // all parameters, running statistics too; no slots
  const Preprocess* preprocess = nullptr;
  std::vector<GoldenRow> golden;
  std::vector<std::string> labels;            // of a classifier, by index
  Lineage lineage;
  i64 opset = 13;
};

// Writes it aside and renames it to `folder`, which must not exist. Returns the root digest: SHA-256
// of manifest.json, hex, as in MANIFEST.sha256.
std::string write_bundle(Files& files, const std::string& folder, const BundleContent& content);

class Bundle {
 public:
  // Checks MANIFEST.sha256 and every checksum: Exit::storage naming the file.
  static std::shared_ptr<const Bundle> open(Files& files, const std::string& folder);
  virtual ~Bundle() = default;
  virtual const std::string& folder() const = 0;
  virtual const std::string& digest() const = 0;
  virtual const Graph& graph() const = 0;     // fused
  virtual const std::vector<NamedView>& weights() const = 0;
  virtual const Preprocess& preprocess() const = 0;
  virtual const std::vector<GoldenRow>& golden() const = 0;
  virtual const std::vector<std::string>& labels() const = 0;
  virtual const nlohmann::json& manifest() const = 0;
};

}  // namespace cohort
