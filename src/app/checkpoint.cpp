#include "app/checkpoint.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>

#include "app/inspect.h"
#include "app/table.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "train/retention.h"
#include "train/run_folder.h"

namespace cohort {
namespace {

using nlohmann::json;

// The folders that hold the checkpoints of a run, or the path where it is such a folder itself.
std::vector<std::string> checkpoints_of(const std::string& path) {
  if (real_files().exists(path + "/checkpoints")) return checkpoint_folders(real_files(), path);
  if (!checkpoint_steps(real_files(), path).empty()) return {path};
  fail(Exit::usage, "{}: expected a run folder or its checkpoints/, found no checkpoint there", path);
}

// A checkpoint as given, or a run's newest valid one.
LoadedCheckpoint open_checkpoint(const std::string& path) {
  if (kind_of_path(real_files(), path) == PathKind::checkpoint)
    return load_checkpoint(real_files(), path);
  const std::vector<std::string> folders = checkpoints_of(path);
  auto loaded = load_newest(real_files(), folders);
  if (!loaded) fail(Exit::storage, "{}: no checkpoint", join(folders, ", "));
  return std::move(*loaded);
}

std::string utc(double seconds) {
  if (seconds <= 0) return "-";
  const auto whole = static_cast<std::time_t>(seconds);
  std::tm parts{};
  char text[32] = "";
  if (::gmtime_r(&whole, &parts) == nullptr) return "-";
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

struct Line {
  std::string path;
  CheckpointFacts facts;
  std::string error;   // empty: the manifest is right and every file has its size
};

std::vector<Line> lines_of(const std::string& folder) {
  std::vector<Line> lines;
  for (const i64 step : checkpoint_steps(real_files(), folder)) {
    Line line{folder + "/" + checkpoint_name(step), {}, ""};
    try {
      line.facts = checkpoint_facts(real_files(), line.path);
    } catch (const Error& e) {
      line.error = e.what();
    }
    line.facts.step = step;
    lines.push_back(std::move(line));
  }
  return lines;
}

// How one tensor of two checkpoints differs; empty where its bytes are equal.
struct Difference {
  std::string name, what;
  double largest = 0, relative = 0;   // |a - b| and that over the largest |a|
};

using Tensor = std::pair<View, std::vector<u8>>;

Difference difference_of(const std::string& name, const Tensor& a, const Tensor& b) {
  Difference d{name, "", 0, 0};
  if (a.first.dtype != b.first.dtype || a.first.shape != b.first.shape) {
    d.what = fmt::format("{} {} and {} {}", name_of(a.first.dtype), to_string(a.first.shape),
                         name_of(b.first.dtype), to_string(b.first.shape));
    return d;
  }
  if (a.second == b.second) return d;
  const auto x = to_doubles(a.first.dtype, a.second.data(), a.first.count());
  const auto y = to_doubles(b.first.dtype, b.second.data(), b.first.count());
  double scale = 0;
  i64 differing = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    scale = std::max(scale, std::abs(x[i]));
    const double apart = std::abs(x[i] - y[i]);
    differing += !(apart == 0);
    if (apart > d.largest) d.largest = apart;
  }
  d.relative = scale > 0 ? d.largest / scale : d.largest;
  d.what = fmt::format("{} of {} elements", differing, x.size());
  return d;
}

std::vector<Difference> differences(const LoadedCheckpoint& a, const LoadedCheckpoint& b) {
  std::vector<Difference> all;
  for (const auto& [name, tensor] : a.tensors) {
    const auto other = b.tensors.find(name);
    Difference d{name, "only in the first", 0, 0};
    if (other != b.tensors.end()) d = difference_of(name, tensor, other->second);
    if (!d.what.empty()) all.push_back(std::move(d));
  }
  for (const auto& [name, tensor] : b.tensors)
    if (!a.tensors.contains(name)) all.push_back({name, "only in the second", 0, 0});
  return all;
}

// Keys of state.json with other values; the config's text is left to `cohort compare`.
std::vector<std::string> state_differences(const json& a, const json& b) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : a.items())
    if (!b.contains(key) || b.at(key) != value) keys.push_back(key);
  for (const auto& [key, value] : b.items())
    if (!a.contains(key)) keys.push_back(key);
  return keys;
}

// Steps of the best evaluations and of what the run still needs, as the newest valid checkpoint
// knows them.
std::vector<i64> steps_to_keep(const std::vector<std::string>& folders, i64 most) {
  std::vector<i64> steps;
  const auto newest = load_newest(real_files(), folders);
  if (!newest) return steps;
  const json& state = newest->state();
  for (const json& entry : state.value("ranking", json::array()))
    if (static_cast<i64>(steps.size()) < most) steps.push_back(entry.at(1).get<i64>());   // [value, step]
  steps.push_back(state.value("good_checkpoint", i64{-1}));   // a rollback's
  for (const i64 step : state.value("handoff_due", std::vector<i64>{})) steps.push_back(step);
  return steps;
}

}  // namespace

int run_checkpoint_list(const CheckpointOptions& options) {
  const std::vector<std::string> folders = checkpoints_of(options.path);
  std::vector<std::vector<std::string>> table = {
      {"step", "written", "bytes", "files", "version", "state"}};
  json report = json::array();
  bool damaged = false;
  std::vector<Line> lines;
  for (const std::string& folder : folders)
    for (Line& line : lines_of(folder)) lines.push_back(std::move(line));
  for (const Line& line : lines) {
    const CheckpointFacts& f = line.facts;
    const bool whole = line.error.empty();
    damaged |= !whole;
    std::string state = !whole ? line.error : f.good ? "whole" : "whole, not all finite";
    if (!line.path.starts_with(folders[0] + "/"))
      state += fmt::format(", in {}", line.path.substr(0, line.path.find_last_of('/')));
    table.push_back({fmt::format("{}", f.step), utc(f.time), human_bytes(f.bytes),
                     fmt::format("{}", f.files), fmt::format("{}", f.version), state});
    report.push_back({{"step", f.step}, {"path", line.path},
                      {"time", f.time}, {"bytes", f.bytes}, {"files", f.files},
                      {"version", f.version}, {"whole", whole}, {"finite", whole && f.good},
                      {"error", line.error}});
  }
  std::printf("%s\n", options.json ? report.dump(1).c_str() : format_table(table).c_str());
  return static_cast<int>(damaged ? Exit::storage : Exit::done);
}

int run_checkpoint_diff(const CheckpointOptions& options) {
  const LoadedCheckpoint a = open_checkpoint(options.path), b = open_checkpoint(options.other);
  const std::vector<Difference> all = differences(a, b);
  const std::vector<std::string> keys = state_differences(a.state(), b.state());
  if (options.json) {
    json report = {{"first", a.path}, {"second", b.path}, {"state", keys}};
    report["tensors"] = json::array();
    for (const Difference& d : all)
      report["tensors"].push_back({{"name", d.name}, {"what", d.what}, {"largest", d.largest},
                                   {"relative", d.relative}});
    std::printf("%s\n", report.dump(1).c_str());
    return all.empty() ? 0 : 1;
  }
  std::vector<std::vector<std::string>> table = {
      {"tensor", "differs", "largest difference", "of the largest value"}};
  for (const Difference& d : all)
    table.push_back({d.name, d.what, fmt::format("{:.3g}", d.largest),
                     fmt::format("{:.3g}", d.relative)});
  if (!all.empty()) std::printf("%s\n", format_table(table).c_str());
  std::printf("%s\n%s\n%zu of %zu tensors differ; state.json differs in: %s\n", a.path.c_str(),
              b.path.c_str(), all.size(), std::max(a.tensors.size(), b.tensors.size()),
              keys.empty() ? "nothing" : join(keys, ", ").c_str());
  return all.empty() ? 0 : 1;
}

int run_checkpoint_prune(const CheckpointOptions& options) {
  const std::vector<std::string> folders = checkpoints_of(options.path);
  const Retention retention{options.keep_last, steps_to_keep(folders, options.keep_best),
                            options.keep_every_hours};
  std::size_t gone = 0, left = 0;
  for (const std::string& folder : folders) {
    std::vector<CheckpointFacts> whole;
    std::vector<Line> lines = lines_of(folder);
    for (const Line& line : lines)
      if (line.error.empty()) whole.push_back(line.facts);
    const std::vector<i64> steps = steps_to_remove(whole, retention);
    for (const Line& line : lines) {
      const bool chosen = std::count(steps.begin(), steps.end(), line.facts.step) > 0;
      if (!line.error.empty())
        log::warn("{} is left: {}; where it is of no use, remove it by hand", line.path, line.error);
      if (chosen && !options.dry_run) remove_checkpoint(real_files(), line.path);
      if (chosen)
        std::printf("%s %s\n", options.dry_run ? "would remove" : "removed", line.path.c_str());
      (chosen ? gone : left) += 1;
    }
  }
  std::printf("%zu %s, %zu left\n", gone, options.dry_run ? "would go" : "removed", left);
  return 0;
}

}  // namespace cohort
