#include "serve/server_model.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <variant>

#include "base/build.h"
#include "device/cpu_thread.h"

namespace cohort {
namespace {

using nlohmann::json;

json or_empty(const json& object, const char* key) {
  return object.contains(key) ? object.at(key) : json::object();
}

std::string about(const Bundle& bundle, const ServedModel& model) {
  const json& manifest = bundle.manifest();
  json lineage = or_empty(manifest, "lineage");
  lineage.erase("config");                   // long, and may name places of the trainer's machine
  json columns = json::array();
  for (const auto& c : model.columns)
    columns.push_back({{"name", c.name}, {"kind", c.kind}, {"field", c.field}});
  json out = {{"name", model.name},     {"version", model.version}, {"digest", model.digest},
              {"lineage", lineage},     {"columns", columns},       {"labels", model.labels},
              {"server", build_id()},   {"golden_rows", bundle.golden().size()},
              {"two_tower", model.two_tower ? or_empty(manifest, "two_tower") : json(nullptr)}};
  if (const TowerData* towers = bundle.towers()) {
    json user = json::array();               // what the best items are asked with
    for (const auto& c : model.columns)
      for (const Input& input : towers->user.inputs)
        if (input.field == c.field) user.push_back(c.name);
    out["user_columns"] = user;
  }
  if (!bundle.golden().empty()) {
    // What people may try first.
    out["example"] = json::parse(bundle.golden().front().raw, nullptr, false);
    if (out["example"].is_discarded()) out.erase("example");
  }
  return out.dump(-1, ' ', false, json::error_handler_t::replace);
}

// Plans are made when a batch of their size comes first: not while a request waits. Those of very
// many rows wait for them: they may need memory that is never used.
void warm_up(Scorer& scorer, i64 rows) {
  if (scorer.bundle().golden().empty()) return;
  const json row = json::parse(scorer.bundle().golden().front().raw);
  for (i64 size = 1;; size = std::min(rows, size * (size == 1 ? 8 : 4))) {
    scorer.score(std::vector<json>(static_cast<std::size_t>(size), row));
    if (size == rows || size >= 256) return;
  }
}

}  // namespace

std::string ServedModel::label(std::size_t index) const {
  return index < labels.size() ? labels[index] : std::to_string(index);
}

std::shared_ptr<const ServedModel> served_model(std::shared_ptr<const Bundle> bundle,
                                                const ServedName& name, i64 rows) {
  auto model = std::make_shared<ServedModel>();
  const Graph& graph = bundle->graph();
  const json lineage = or_empty(bundle->manifest(), "lineage");
  model->name = name.name;
  model->version = name.version;
  model->digest = bundle->digest();
  model->run = lineage.value("run", "");
  model->step = lineage.value("step", i64{0});
  model->columns = bundle->preprocess().columns();
  model->loss = std::get<Loss>(graph.nodes.back().op).kind;
  const Value& value = graph.values[static_cast<std::size_t>(graph.prediction)];
  model->width = model->loss == LossKind::cross_entropy ? value.shape.back() : count(value.shape);
  if (value.lengths >= 0 && value.shape.size() > 1) model->width = value.shape.back();
  model->has_value = bundle->preprocess().target().has_value();
  model->labels = bundle->labels();
  model->two_tower = bundle->towers() != nullptr;
  model->about = about(*bundle, *model);
  const auto weights = load_weights(*bundle, 1);
  model->make = [bundle, weights, rows]() -> AnswerRows {
    prepare_cpu_thread();
    auto scorer = std::make_shared<Scorer>(bundle, ScorerOptions{1, rows}, weights);
    warm_up(*scorer, rows);
    return [scorer](const std::vector<json>& all, i64 top, const Unwanted& unwanted) {
      std::vector<RowReply> replies(all.size());
      if (top > 0) {
        std::vector<TopAnswer> found = scorer->top(all, top, unwanted);
        for (std::size_t k = 0; k < all.size(); ++k) replies[k].top = std::move(found[k]);
        return replies;
      }
      std::vector<Answer> answers = scorer->score(all, unwanted);
      for (std::size_t k = 0; k < all.size(); ++k) replies[k].answer = std::move(answers[k]);
      return replies;
    };
  };
  model->stage = [bundle](const std::vector<RawColumn>& columns, i64 count) {
    return bundle->preprocess().stage(bundle->graph().inputs, columns, count);
  };
  model->json_text = [bundle](const RowReply& reply) {
    const bool scored = !reply.answer.output.empty() || !reply.answer.error.empty();
    return scored ? json_text(*bundle, reply.answer) : json_text(*bundle, reply.top);
  };
  return model;
}

}  // namespace cohort
