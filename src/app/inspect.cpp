#include "app/inspect.h"

#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "app/compare.h"
#include "app/table.h"
#include "base/error.h"
#include "base/text.h"
#include "data/shard_set.h"
#include "model/build.h"
#include "model/fuse.h"
#include "plan/cost.h"
#include "serve/bundle_files.h"
#include "train/checkpoint.h"
#include "train/experiment.h"

namespace cohort {
namespace {

using nlohmann::json;

json describe_shards(const std::string& path) {
  const auto set = ShardSet::open(path);
  std::map<std::string, i64> rows;
  json shards = json::array(), vocabularies = json::object();
  for (const ShardInfo& shard : set->shards()) {
    rows[shard.split] += shard.rows;
    shards.push_back({{"file", shard.file}, {"split", shard.split}, {"rows", shard.rows}});
  }
  for (const Vocabulary& v : set->vocabularies()) vocabularies[v.name] = v.entries.size();
  return {{"kind", "shard set"},     {"path", path},
          {"fields", set->fields()}, {"rows", rows},
          {"shards", shards},        {"vocabularies", vocabularies},
          {"shuffled", set->shuffled()}, {"fingerprint", set->fingerprint()}};
}

std::string range_of(const Field& field) {
  if (field.stats.mean.empty()) return "";
  if (field.stats.mean.size() > 1) return fmt::format("{} columns", field.stats.mean.size());
  return fmt::format("mean {:.4g} stddev {:.4g} [{:.4g}, {:.4g}]", field.stats.mean[0],
                     field.stats.stddev.at(0), field.stats.min.at(0), field.stats.max.at(0));
}

void print_shards(const json& report) {
  std::vector<std::vector<std::string>> rows = {
      {"field", "type", "shape", "classes", "length", "training split"}};
  for (const json& entry : report["fields"]) {
    const Field field = entry.get<Field>();
    rows.push_back({field.name, name_of(field.dtype), to_string(field.shape),
                    field.classes ? fmt::format("{}", field.classes) : "-",
                    field.ragged ? fmt::format("mean {:.4g}, at most {}", field.stats.mean_length,
                                               field.stats.max_length)
                                 : "",
                    range_of(field)});
  }
  std::printf("shard set %s, fingerprint %s\n\n%s\n", report["path"].get<std::string>().c_str(),
              report["fingerprint"].get<std::string>().c_str(), format_table(rows).c_str());
  rows = {{"split", "rows", "shards"}};
  for (const auto& [split_name, count] : report["rows"].items()) {
    i64 shards = 0;
    for (const json& shard : report["shards"]) shards += shard["split"] == split_name;
    rows.push_back({split_name, count.dump(), fmt::format("{}", shards)});
  }
  std::fputs(format_table(rows).c_str(), stdout);
}

// What a training step costs at least on one rank.
json cost_of_step(const Experiment& experiment, const Graph& graph) {
  const std::string& precision = experiment.device.precision;
  const bool half = precision == "bf16" || precision == "f16";
  CostInputs inputs{&graph, experiment.global_batch(1), 1, half ? 2 : 4, 4, experiment.optimizer, {}};
  const StepCost total = total_of(count_costs(inputs));
  return {{"batch", inputs.rows}, {"flop", total.flops}, {"bytes_read", total.read},
          {"bytes_written", total.written}};
}

json describe_config(const InspectOptions& options) {
  const Experiment experiment = Experiment::load(options.path, options.overrides);
  const auto set = ShardSet::open(experiment.data.shards);
  const Graph graph = build_graph(experiment.model, set->fields(), set->vocabularies());
  json layers = json::array();
  i64 total = 0;
  for (const Node& node : graph.nodes) {
    i64 parameters = 0;
    for (const i64 p : node.params) {
      const Param& param = graph.params[static_cast<std::size_t>(p)];
      if (!param.running) parameters += count(param.shape);
    }
    total += parameters;
    const Shape shape =
        node.out.empty() ? Shape{} : graph.values[static_cast<std::size_t>(node.out[0])].shape;
    layers.push_back({{"name", node.name}, {"kind", kind_of(node.op)}, {"output", shape},
                      {"parameters", parameters}});
  }
  return {{"kind", "config"}, {"path", options.path}, {"name", experiment.name},
          {"layers", layers}, {"parameters", total},
          {"step", cost_of_step(experiment, fuse(graph))}};
}

void print_config(const json& report) {
  std::vector<std::vector<std::string>> rows = {{"layer", "kind", "output of a row", "parameters"}};
  for (const json& layer : report["layers"]) {
    rows.push_back({layer["name"].get<std::string>(), layer["kind"].get<std::string>(),
                    to_string(layer["output"].get<Shape>()), layer["parameters"].dump()});
  }
  const json& step = report["step"];
  const double moved = step["bytes_read"].get<double>() + step["bytes_written"].get<double>();
  std::printf("%s: %s parameters; a step of %s rows takes at least %sFLOP and moves %s\n\n%s",
              report["name"].get<std::string>().c_str(), report["parameters"].dump().c_str(),
              step["batch"].dump().c_str(), human_count(step["flop"].get<double>()).c_str(),
              human_bytes(static_cast<i64>(moved)).c_str(), format_table(rows).c_str());
}

json describe_checkpoint(const std::string& path) {
  const LoadedCheckpoint loaded = load_checkpoint(real_files(), path);
  json tensors = json::array();
  for (const auto& [name, tensor] : loaded.tensors) {
    tensors.push_back({{"name", name},
                       {"type", name_of(tensor.first.dtype)},
                       {"shape", tensor.first.shape},
                       {"bytes", tensor.first.bytes()}});
  }
  return {{"kind", "checkpoint"}, {"path", path}, {"state", loaded.state()}, {"tensors", tensors}};
}

void print_checkpoint(const json& report) {
  std::vector<std::vector<std::string>> rows = {{"tensor", "type", "shape", "bytes"}};
  for (const json& tensor : report["tensors"]) {
    rows.push_back({tensor["name"].get<std::string>(), tensor["type"].get<std::string>(),
                    to_string(tensor["shape"].get<Shape>()), tensor["bytes"].dump()});
  }
  std::printf("checkpoint %s\n\n%s\n", report["path"].get<std::string>().c_str(),
              format_table(rows).c_str());
  rows = {{"state", "value"}};
  for (const auto& [key, value] : report["state"].items()) {
    if (!value.is_structured()) rows.push_back({key, value.dump()});
  }
  std::fputs(format_table(rows).c_str(), stdout);
}

json describe_run(const std::string& path) {
  json report = {{"kind", "run"}, {"path", path}, {"summary", run_summary(real_files(), path)}};
  report["info"] = json::parse(real_files().read(path + "/run.json"), nullptr, false);
  if (report["info"].is_discarded()) fail(Exit::storage, "{}/run.json: not JSON", path);
  report["checkpoints"] = checkpoint_steps(real_files(), path + "/checkpoints");
  return report;
}

void print_run(const json& report) {
  std::vector<std::vector<std::string>> rows = {{"run", report["path"].get<std::string>()}};
  for (const char* part : {"info", "summary"}) {
    for (const auto& [key, value] : report[part].items()) {
      if (!value.is_structured()) rows.push_back({key, value.dump()});
    }
  }
  rows.push_back({"attempts", fmt::format("{}", report["info"].value("attempts", json()).size())});
  rows.push_back({"checkpoints", report["checkpoints"].dump()});
  for (const auto& [name, value] : report["summary"]["metrics"].items()) {
    rows.push_back({name, value.dump()});
  }
  std::fputs(format_table(rows).c_str(), stdout);
}

json describe_bundle(const std::string& path) {
  const CheckedFolder checked = check_bundle_files(real_files(), path, {});
  json report = json::parse(checked.manifest);
  report["kind"] = "bundle", report["path"] = path, report["digest"] = checked.digest;
  return report;
}

void print_bundle(const json& report) {
  std::vector<std::vector<std::string>> rows = {{"bundle", report["path"].get<std::string>()},
                                                {"digest", report["digest"].get<std::string>()}};
  for (const char* key : {"run", "step", "build", "data", "split", "metrics"})
    rows.push_back({key, report["lineage"][key].dump()});
  for (const char* key : {"opset", "golden_rows", "two_tower"})
    if (report.contains(key)) rows.push_back({key, report[key].dump()});
  for (const char* key : {"inputs", "outputs"})
    for (const json& t : report[key])
      rows.push_back({key, fmt::format("{} {} {}", t["name"].get<std::string>(),
                                       t["dtype"].get<std::string>(), t["shape"].dump())});
  for (const json& file : report["files"])
    rows.push_back({file["name"].get<std::string>(), human_bytes(file["bytes"].get<i64>())});
  std::fputs(format_table(rows).c_str(), stdout);
}

}  // namespace

PathKind kind_of_path(Files& files, const std::string& path) {
  if (!files.exists(path)) fail(Exit::usage, "{}: no such file or folder", path);
  if (path.ends_with(".yaml") || path.ends_with(".yml")) return PathKind::config;
  if (files.exists(path + "/run.json")) return PathKind::run;
  for (const char* name : {"/MANIFEST.sha256", "/golden.jsonl", "/model.onnx"})
    if (files.exists(path + name)) return PathKind::bundle;
  const std::string name = path.substr(path.find_last_of('/', path.size() - 2) + 1);
  if (checkpoint_step(name) || files.exists(path + "/state.json")) return PathKind::checkpoint;
  if (files.exists(path + "/manifest.json")) return PathKind::shard_set;
  fail(Exit::usage,
       "{}: expected a shard set (manifest.json), a config (.yaml), a checkpoint (step-...), a run "
       "(run.json) or a bundle (MANIFEST.sha256)",
       path);
}

int run_inspect(const InspectOptions& options) {
  json report;
  void (*print)(const json&) = nullptr;
  switch (kind_of_path(real_files(), options.path)) {
    case PathKind::shard_set:
      report = describe_shards(options.path), print = print_shards;
      break;
    case PathKind::config:
      report = describe_config(options), print = print_config;
      break;
    case PathKind::checkpoint:
      report = describe_checkpoint(options.path), print = print_checkpoint;
      break;
    case PathKind::run:
      report = describe_run(options.path), print = print_run;
      break;
    case PathKind::bundle:
      report = describe_bundle(options.path), print = print_bundle;
      break;
  }
  if (options.json) {
    std::printf("%s\n", report.dump(1).c_str());
  } else {
    print(report);
  }
  return 0;
}

}  // namespace cohort
