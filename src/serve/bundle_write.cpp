#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "export/onnx.h"
#include "export/safetensors.h"
#include "serve/bundle.h"
#include "serve/bundle_files.h"
#include "serve/bundle_hash.h"
#include "serve/bundle_impl.h"
#include "serve/engine.h"
#include "serve/index.h"
#include "serve/json_text.h"
#include "serve/scorer.h"
#include "store/folder.h"

namespace cohort {
namespace {

using nlohmann::json;

constexpr i64 rows_at_a_time = 256, recall_at = 10, recall_queries = 1000;

json tensors_json(const std::vector<OnnxTensor>& tensors) {
  json all = json::array();
  for (const OnnxTensor& t : tensors)
    all.push_back({{"name", t.name}, {"dtype", name_of(t.dtype)}, {"shape", t.dims}});
  return all;
}

class BundleWriter {
 public:
  BundleWriter(Files& files, const std::string& folder, const BundleContent& content)
      : files_(files), folder_(folder), content_(content), writer_(files, folder) {}

  std::string write() {
    OnnxModel model = to_onnx(*content_.graph, content_.weights, options());
    facts_ = facts(model);
    add_model("model.onnx", model);
    model = {};   // it may be large
    add("weights.safetensors", [&](FileWriter& out) { write_safetensors(out, content_.weights); });
    add_text("preprocess.json", content_.preprocess->text());
    add_text("golden.jsonl", golden_text(content_.golden));
    std::string why_not;
    if (const auto towers = find_towers(*content_.graph, &why_not)) add_towers(*towers);
    if (!why_not.empty())
      log::info("{}: no towers, no items, no index: {}", folder_, why_not);
    add_text("README.md", readme_text(facts_, content_));
    writer_.commit(facts_, [&] { return finish(); });
    return digest_;
  }

 private:
  void add(const std::string& name, const std::function<void(FileWriter&)>& body) {
    writer_.write(name, body);
    facts_["sha256"][name] = sha256(files_.read(writer_.temporary() + "/" + name));
  }
  void add_text(const std::string& name, const std::string& text) {
    add(name, [&](FileWriter& out) { out.write(text.data(), static_cast<i64>(text.size())); });
  }

  // A data file is there before the model that names it: nobody finds a name without a file.
  void add_model(const std::string& name, const OnnxModel& model) {
    if (!model.external.empty())
      add(model.data_file, [&](FileWriter& out) { write_onnx_data(out, model); });
    add_text(name, model.bytes);
    const std::string path = writer_.temporary() + "/" + name;
    if (!model.external.empty() && std::filesystem::exists(path)) check_onnx_file(path);
  }

  OnnxOptions options() const {
    OnnxOptions options;
    options.opset = content_.opset;
    options.producer_version = content_.lineage.build;
    options.inline_model = content_.inline_model;
    options.inline_tensor = content_.inline_tensor;
    const auto& columns = content_.preprocess->columns();
    const auto taken = [](const Preprocess::Column& c) { return c.field == "value"; };
    if (std::none_of(columns.begin(), columns.end(), taken))   // an input has the name else
      options.target = content_.preprocess->target();
    return options;
  }

  json facts(const OnnxModel& model) const {
    const Lineage& l = content_.lineage;
    json metrics = json::object(), columns = json::array();
    for (const auto& [name, value] : l.metrics) metrics[name] = number_or_null(value);
    for (const auto& c : content_.preprocess->columns())
      columns.push_back({{"name", c.name}, {"kind", c.kind}, {"field", c.field}});
    return {{"format", "cohort bundle"},
            {"version", 1},
            {"lineage", {{"run", l.run}, {"step", l.step}, {"config", l.config}, {"build", l.build},
                         {"data", l.data}, {"split", l.split}, {"metrics", metrics}}},
            {"model", Binder::write(BundledModel{*content_.model})},
            {"labels", content_.labels},
            {"columns", columns},
            {"inputs", tensors_json(model.inputs)},
            {"outputs", tensors_json(model.outputs)},
            {"opset", content_.opset},
            {"golden_rows", content_.golden.size()},
            {"sha256", json::object()}};
  }

  void add_towers(const TwoTowers& towers) {
    if (!content_.shards)
      fail(Exit::usage, "{}: a two-tower model is exported with the rows of its shard set",
           folder_);
    const Graph& graph = *content_.graph;
    add_tower_models();
    const auto device = make_serving_device(0);
    TowerRows users = gather_rows(content_.shards, graph, towers.user);
    TowerRows items = gather_rows(content_.shards, graph, towers.item);
    std::vector<float> user_vectors = vectors_of(device, towers.user, users);
    std::vector<float> item_vectors = vectors_of(device, towers.item, items);
    const i64 dim = count(graph.values[at(towers.item.value)].shape);
    const View vectors{item_vectors.data(), DType::f32, {items.ids, dim}};
    add("users.safetensors", [&](FileWriter& out) {
      write_safetensors(out, users.tensors(graph, towers.user));
    });
    add("items.safetensors", [&](FileWriter& out) {
      std::vector<NamedView> tensors = items.tensors(graph, towers.item);
      tensors.push_back({"vectors", vectors});
      write_safetensors(out, tensors);
    });
    facts_["two_tower"] = {{"users", std::count(users.known.begin(), users.known.end(), u8{1})},
                           {"items", std::count(items.known.begin(), items.known.end(), u8{1})},
                           {"dim", dim}};
    add_index(items_of(items, vectors), known_of(users, user_vectors, dim));
  }

  void add_tower_models() {
    const Graph& graph = *content_.graph;
    const TowerModels models =
        to_onnx_towers(graph, *towers_of(graph), content_.weights, options());
    add_model("user_tower.onnx", models.user);
    add_model("item_tower.onnx", models.item);
    add_model("scorer.onnx", models.scorer);
  }

  // Of ids without a row: zeros.
  std::vector<float> vectors_of(const std::shared_ptr<Device>& device, const Tower& tower,
                                const TowerRows& rows) const {
    const Graph part = part_of(*content_.graph, tower.value);
    Engine engine(std::make_shared<EngineWeights>(device, part, content_.weights), rows_at_a_time);
    std::vector<float> all = predict_all(engine, part.inputs, rows.columns, rows.ids);
    const i64 dim = count(part.values[at(tower.value)].shape);
    for (i64 id = 0; id < rows.ids; ++id)
      if (!rows.known[at(id)]) std::fill_n(all.begin() + id * dim, dim, 0.0f);
    return all;
  }

  // The first users' vectors, to measure the index with.
  static std::vector<float> known_of(const TowerRows& rows, const std::vector<float>& vectors,
                                     i64 dim) {
    std::vector<float> known;
    for (i64 id = 0; id < rows.ids && static_cast<i64>(known.size()) < recall_queries * dim; ++id)
      if (rows.known[at(id)])
        known.insert(known.end(), vectors.begin() + id * dim, vectors.begin() + (id + 1) * dim);
    return known;
  }

  void add_index(const Items& items, const std::vector<float>& queries) {
    json& facts = facts_["two_tower"];
    facts["index"] = nullptr;
    if (!have_faiss()) {
      facts["index_note"] = "no index.faiss: the exporting build has no FAISS; all items are compared";
      return;
    }
    const std::string bytes = build_faiss(items, queries);
    add_text("index.faiss", bytes);
    const auto index = open_faiss(bytes, "index.faiss");
    facts["index"] = index->describe();
    facts["recall"] = {{"k", recall_at},
                       {"queries", static_cast<i64>(queries.size()) / std::max<i64>(items.dim, 1)},
                       {"value", recall(*index, *make_exact_index(items), queries, recall_at)}};
  }

  // The bundle is whole but for its name: what others will open is opened and asked.
  bool finish() {
    const std::string manifest = files_.read(writer_.temporary() + "/manifest.json");
    digest_ = sha256(manifest);
    const std::string root = root_line(digest_);
    write_file(files_, writer_.temporary(), "MANIFEST.sha256", [&](FileWriter& out) {
      out.write(root.data(), static_cast<i64>(root.size()));
    });
    files_.sync_folder(writer_.temporary());
    Scorer scorer(Bundle::open(files_, writer_.temporary()), {});
    check_golden(scorer);
    refuse_existing(files_, folder_);
    return true;
  }

 public:
  static void refuse_existing(Files& files, const std::string& folder) {
    if (files.exists(folder))
      fail(Exit::usage, "{}: exists already; a bundle is never written over: name another folder, "
           "or remove this one", folder);
  }

 private:
  Files& files_;
  std::string folder_;
  const BundleContent& content_;
  FolderWriter writer_;
  json facts_;
  std::string digest_;
};

// What a killed export of this bundle left. Another may be at work there: not for us to remove.
void tell_leftovers(Files& files, const std::string& folder) {
  const std::string parent = parent_of(folder);
  const std::string start = folder.substr(folder.find_last_of('/') + 1) + ".tmp-";
  if (!files.exists(parent)) return;
  for (const std::string& name : files.list(parent))
    if (name.starts_with(start))
      log::warn("{}/{}: of an export that was killed, or is at work; remove it if none is", parent,
                name);
}

}  // namespace

std::string write_bundle(Files& files, const std::string& path, const BundleContent& content) {
  std::string folder = path;
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  BundleWriter::refuse_existing(files, folder);
  tell_leftovers(files, folder);
  if (content.golden.empty())
    fail(Exit::data, "{}: no golden rows: nothing to prove its answers with", folder);
  return BundleWriter(files, folder, content).write();
}

}  // namespace cohort
