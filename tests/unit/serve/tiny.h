// Small models with bundles: a shard set, weights from the seed, and answers computed from the rows
// that the set holds, by a plan of its own.
#pragma once
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/eval_reader.h"
#include "data/shard_command.h"
#include "model/build.h"
#include "model/fuse.h"
#include "plan/plan.h"
#include "serve/bundle.h"
#include "serve/bundle_impl.h"
#include "serve/scorer.h"

namespace cohort {

struct Tiny {
  std::shared_ptr<void> remover;   // of the folder; the last to go
  std::string folder;                  // set/ and whatever a test writes
  std::shared_ptr<ShardSet> shards;
  BundledModel model;
  Graph graph;
  std::unique_ptr<Device> device;
  std::unique_ptr<ModelState> state;
  HostTensors weights;
  std::optional<Preprocess> preprocess;

  BundleContent content() const {
    BundleContent c;
    c.model = &model.model;
    c.graph = &graph;
    c.weights = weights.views;
    c.preprocess = &*preprocess;
    c.golden = golden();
    c.lineage = {"tiny", "name: tiny\n", "build", shards->fingerprint(), 7, {{"auc", 0.5}}, "test"};
    c.shards = shards;
    if (std::get<Loss>(graph.nodes.back().op).kind == LossKind::cross_entropy)
      for (i64 k = 0; k < graph.values[static_cast<std::size_t>(graph.prediction)].shape.back(); ++k)
        c.labels.push_back("class" + std::to_string(k));
    return c;
  }

  std::vector<GoldenRow> golden() const {
    std::map<i64, Answer> answers;
    PlanConfig config;
    config.rows = config.global_batch = 4;
    Plan plan(*device, graph, *state, config);
    for (const char* split : {"train", "test"}) {
      const RowReader reader(shards, split, graph.inputs, 2);
      Batch batch;
      for (const EvalBlock& block : eval_blocks(reader.rows(), 4, 0, 1)) {
        reader.read_rows(batch, block, 4);
        plan.infer(batch);
        add_answers(batch, plan.prediction(batch.valid), answers);
      }
    }
    std::vector<GoldenRow> rows;
    for (const SampleRow& sample : shards->samples()) {
      const Answer& a = answers.at(sample.row);
      rows.push_back({preprocess->raw_row(sample).dump(), sample.row, a.output, a.probabilities});
    }
    return rows;
  }

  std::vector<nlohmann::json> raw_rows() const {
    std::vector<nlohmann::json> rows;
    for (const SampleRow& sample : shards->samples()) rows.push_back(preprocess->raw_row(sample));
    return rows;
  }

  // Writes and opens a bundle beside the set.
  std::shared_ptr<const Bundle> bundle(const std::string& name) const {
    real_files().remove(folder + "/" + name);
    write_bundle(real_files(), folder + "/" + name, content());
    return Bundle::open(real_files(), folder + "/" + name);
  }

 private:
  void add_answers(const Batch& batch, const std::vector<double>& predictions,
                   std::map<i64, Answer>& answers) const {
    const Value& value = graph.values[static_cast<std::size_t>(graph.prediction)];
    for (i64 r = 0; r < batch.valid; ++r) {
      const auto row = static_cast<std::size_t>(r);
      const i64 length =
          value.lengths < 0 ? 0 : batch.columns[static_cast<std::size_t>(value.lengths)].lengths[row];
      answers[batch.row_ids[row]] =
          answer_of(graph, predictions.data() + r * count(value.shape), length);
    }
  }
};

// From these files; `recipe` behind its root and output, and `model` of a config: YAML.
inline Tiny make_tiny_of(const std::string& name, const std::map<std::string, std::string>& files,
                         const std::string& recipe, const std::string& model) {
  Tiny t;
  t.folder = fmt::format("{}serve_{}_{}", testing::TempDir(), name, ::getpid());   // tests run at once
  t.remover = {nullptr, [folder = t.folder](void*) { std::filesystem::remove_all(folder); }};
  real_files().remove(t.folder);
  for (const auto& [file, bytes] : files) {
    real_files().make_folder(parent_of(t.folder + "/" + file));
    std::ofstream(t.folder + "/" + file, std::ios::binary) << bytes;
  }
  std::ofstream(t.folder + "/recipe.yaml")
      << "root: " << t.folder << "\noutput: " << t.folder << "/set\n" << recipe;
  shard(t.folder + "/recipe.yaml", {});
  t.shards = ShardSet::open(t.folder + "/set");
  Binder::read(Document::parse("model:\n" + model, name), t.model);
  t.graph = fuse(build_graph(t.model.model, t.shards->fields(), t.shards->vocabularies()));
  t.device = make_cpu_device({1, "auto"});
  t.state = std::make_unique<ModelState>(*t.device, t.graph,
                                         std::vector<i64>(t.graph.params.size(), 0), false);
  t.state->initialise(3);
  t.weights = t.state->copy_to_host();
  t.preprocess.emplace(Preprocess::of(*t.shards, t.graph));
  return t;
}

// The same rows in both splits.
inline Tiny make_tiny(const std::string& name, const std::string& csv, const std::string& fields,
                      const std::string& model) {
  return make_tiny_of(name, {{"train.csv", csv}, {"test.csv", csv}},
                      "rows_per_block: 4\nsources: [{path: train.csv}, {path: test.csv, split: test}]\n"
                      "fields:\n" + fields, model);
}

// Users and items with a number each. `stars`: the number of stars is predicted, from (stars - 1) / 4.
// `tail`: layers behind the dot. `others`: users more, whose ids come first.
inline Tiny make_two_tower(const std::string& name, bool stars = false,
                           const std::string& tail = "", int others = 0) {
  std::string csv = "user,u0,item,i0,label\n";
  for (int r = 0; r < 40; ++r)
    csv += fmt::format("{}{},{},i{},{},{}\n", r < others ? "a" : "u", r % 7, 0.5 * (r % 7), r % 5,
                       1.5 - r % 5, r % 2);
  return make_tiny(name, csv,
                   "  - {name: user, kind: id}\n  - {name: item, kind: id}\n"
                   "  - {name: user_features, kind: number, columns: [u0]}\n"
                   "  - {name: item_features, kind: number, columns: [i0]}\n"
                   + std::string(stars ? "  - {name: label, kind: number, offset: -1, scale: 0.25}\n"
                                       : "  - {name: label, kind: number}\n"),
                   "  inputs: {user: {}, item: {}, user_features: {}, item_features: {}}\n"
                   "  layers:\n"
                   "    - embedding: {name: ut, from: user, dim: 2, init_scale: 1}\n"
                   "    - concat: {name: ua, from: [ut, user_features]}\n"
                   "    - dense: {name: uv, units: 4}\n"
                   "    - embedding: {name: it, from: item, dim: 2, init_scale: 1}\n"
                   "    - concat: {name: ia, from: [it, item_features]}\n"
                   "    - dense: {name: iv, units: 4}\n"
                   "    - dot: {name: score, from: [uv, iv]}\n" + tail
                   + std::string(stars ? "  loss: {mse: {target: label}}\n"
                                       : "  loss: {bce: {target: label}}\n"));
}

// The next of a row's events, at every step.
inline Tiny make_next(const std::string& name, i64 max_length) {
  std::string csv = "events\n";
  for (int r = 0; r < 23; ++r) {
    for (int k = 0; k <= r % 6 + 1; ++k) csv += fmt::format("{}{}", k ? " " : "", (r * 3 + k) % 9);
    csv += "\n";
  }
  return make_tiny(name, csv,
                   "  - {name: events, kind: ids, part: history}\n"
                   "  - {name: next, kind: ids, column: events, part: next}\n",
                   fmt::format("  inputs: {{events: {{max_length: {0}}}, next: {{max_length: {0}}}}}\n"
                               "  layers:\n    - embedding: {{from: events, dim: 3}}\n"
                               "    - lstm: {{units: 5, output: every}}\n    - dense: {{units: classes}}\n"
                               "  loss: {{cross_entropy: {{target: next}}}}\n", max_length));
}

}  // namespace cohort
