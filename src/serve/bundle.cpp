#include "serve/bundle.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "export/safetensors.h"
#include "model/build.h"
#include "model/fuse.h"
#include "serve/bundle_files.h"
#include "serve/bundle_impl.h"
#include "serve/engine.h"

namespace cohort {

using nlohmann::json;

void bind(Binder& b, BundledModel& m) { b.group("model", m.model, "Inputs, layers and loss."); }

std::string golden_text(const std::vector<GoldenRow>& rows) {
  std::string text;
  for (const GoldenRow& row : rows) {
    const json line = {{"row", row.row_id},
                       {"raw", json::parse(row.raw)},
                       {"output", row.output},
                       {"probabilities", row.probabilities}};
    text += line.dump() + "\n";
  }
  return text;
}

namespace {

std::vector<GoldenRow> parse_golden(const std::string& text) {
  std::vector<GoldenRow> rows;
  for (std::size_t from = 0; from < text.size();) {
    const std::size_t end = std::min(text.find('\n', from), text.size());
    const json line = json::parse(text.substr(from, end - from));
    rows.push_back({line.at("raw").dump(), line.at("row").get<i64>(),
                    line.at("output").get<std::vector<double>>(),
                    line.at("probabilities").get<std::vector<double>>()});
    from = end + 1;
  }
  return rows;
}

class OpenBundle final : public Bundle {
 public:
  OpenBundle(Files& files, const std::string& folder, i64 most_pixels) : folder_(folder) {
    CheckedFolder checked = check_bundle_files(files, folder, {"weights.safetensors",
        "preprocess.json", "golden.jsonl", "users.safetensors", "items.safetensors",
        "index.faiss"});
    digest_ = checked.digest;
    try {
      read(checked);
      preprocess_->limit_pixels(most_pixels);
    } catch (const json::exception& e) {
      fail(Exit::storage, "{}: its parts do not fit together: {}; export it again", folder,
           e.what());
    }
  }
  const std::string& folder() const override { return folder_; }
  const std::string& digest() const override { return digest_; }
  const Graph& graph() const override { return graph_; }
  const std::vector<NamedView>& weights() const override { return weights_; }
  const Preprocess& preprocess() const override { return *preprocess_; }
  const std::vector<GoldenRow>& golden() const override { return golden_; }
  const std::vector<std::string>& labels() const override { return labels_; }
  const json& manifest() const override { return manifest_; }
  const TowerData* towers() const override { return towers_.get(); }

 private:
  std::string path(const std::string& name) const { return folder_ + "/" + name; }

  void read(CheckedFolder& checked) {
    manifest_ = json::parse(checked.manifest);
    labels_ = manifest_.at("labels").get<std::vector<std::string>>();
    preprocess_.emplace(Preprocess::parse(checked.files.at("preprocess.json"),
                                          path("preprocess.json")));
    BundledModel served;
    Binder::read(Document::parse(manifest_.at("model").get<std::string>(),
                                 path("manifest.json") + " model"), served);
    graph_ = fuse(build_graph(served.model, preprocess_->fields(), preprocess_->vocabularies()));
    weight_bytes_ = std::move(checked.files.at("weights.safetensors"));
    take_weights(view_safetensors(weight_bytes_, path("weights.safetensors")));
    golden_ = parse_golden(checked.files.at("golden.jsonl"));
    if (manifest_.contains("two_tower")) read_towers(checked);
  }

  void take_weights(const std::map<std::string, View>& views) {
    const std::string file = path("weights.safetensors");
    for (const Param& param : graph_.params) {
      const auto found = views.find(param.name);
      if (found == views.end())
        fail(Exit::storage, "{}: no tensor \"{}\" that the model has; export again", file,
             param.name);
      const View& view = found->second;
      if (view.dtype != DType::f32 || view.shape != param.shape)
        fail(Exit::storage, "{}: tensor {}: expected float32 {}, got {} {}; export again", file,
             param.name, to_string(param.shape), name_of(view.dtype), to_string(view.shape));
      weights_.push_back({param.name, view});
    }
  }

  void read_towers(CheckedFolder& checked) {
    const auto found = find_towers(graph_);
    if (!found) fail(Exit::storage, "{}: two_tower, but the model is none", path("manifest.json"));
    towers_ = std::make_unique<TowerData>();
    TowerData& t = *towers_;
    t.towers = *found;
    t.user = part_of(graph_, found->user.value);
    t.item = part_of(graph_, found->item.value);
    std::string& users = checked.files.at("users.safetensors");
    t.users = TowerRows::from(view_safetensors(users, path("users.safetensors")), graph_,
                              found->user, path("users.safetensors"));
    item_bytes_ = std::move(checked.files.at("items.safetensors"));
    const auto items = view_safetensors(item_bytes_, path("items.safetensors"));
    t.items = TowerRows::from(items, graph_, found->item, path("items.safetensors"));
    t.vectors = items.count("vectors") ? items.at("vectors") : View{};
    const i64 dim = count(graph_.values[static_cast<std::size_t>(found->item.value)].shape);
    if (t.vectors.dtype != DType::f32 || t.vectors.shape != Shape{t.items.ids, dim})
      fail(Exit::storage, "{}: tensor vectors: expected float32 {}, got {} {}; export again",
           path("items.safetensors"), to_string(Shape{t.items.ids, dim}), name_of(t.vectors.dtype),
           to_string(t.vectors.shape));
    const auto index = checked.files.find("index.faiss");
    t.index = index != checked.files.end() && have_faiss()
                  ? open_faiss(index->second, path("index.faiss"))
                  : make_exact_index(items_of(t.items, t.vectors));
    name_ids(found->user, t.user_names);
    name_ids(found->item, t.item_names);
  }

  void name_ids(const Tower& tower, std::vector<std::string>& names) const {
    const std::string& field = graph_.inputs[static_cast<std::size_t>(tower.key)].field;
    const Vocabulary* v =
        vocabulary_of(field, preprocess_->fields(), preprocess_->vocabularies());
    if (v) names = v->entries;
  }

  std::string folder_, digest_, weight_bytes_, item_bytes_;
  json manifest_;
  Graph graph_;
  std::vector<NamedView> weights_;
  std::optional<Preprocess> preprocess_;
  std::vector<GoldenRow> golden_;
  std::vector<std::string> labels_;
  std::unique_ptr<TowerData> towers_;
};

}  // namespace

Items items_of(const TowerRows& rows, const View& vectors) {
  return {vectors.as<const float>(), rows.known.data(), rows.ids, vectors.shape.at(1)};
}

std::shared_ptr<const Bundle> Bundle::open(Files& files, const std::string& folder,
                                           i64 most_pixels) {
  std::string path = folder;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return std::make_shared<OpenBundle>(files, path, most_pixels);
}

}  // namespace cohort
