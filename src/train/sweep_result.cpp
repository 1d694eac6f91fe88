#include "train/sweep_result.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"
#include "train/json_lines.h"
#include "train/run_folder.h"

namespace cohort {
namespace {

using nlohmann::json;

// Nothing where the file is absent or not JSON: a job that was killed may leave that.
json read_object(Files& files, const std::string& path) {
  if (!files.exists(path)) return json::object();
  json object = json::parse(files.read(path), nullptr, false);
  return object.is_object() ? object : json::object();
}

template <class V>
V value_or(const json& object, const char* key, V otherwise) {
  const auto found = object.find(key);
  if (found == object.end()) return otherwise;
  if constexpr (std::is_same_v<V, std::string>) {
    return found->is_string() ? found->get<V>() : otherwise;
  } else if constexpr (std::is_same_v<V, bool>) {
    return found->is_boolean() ? found->get<V>() : otherwise;
  } else if constexpr (std::is_integral_v<V>) {
    return found->is_number_integer() ? found->get<V>() : otherwise;
  } else {
    return found->is_number() ? found->get<V>() : otherwise;
  }
}

// Seconds since 1970 of "2026-01-02T03:04:05.678Z".
std::optional<double> utc_seconds(const std::string& text) {
  std::tm t{};
  double seconds = 0;
  if (std::sscanf(text.c_str(), "%d-%d-%dT%d:%d:%lfZ", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour,
                  &t.tm_min, &seconds) != 6)
    return std::nullopt;
  t.tm_year -= 1900;
  t.tm_mon -= 1;
  return static_cast<double>(timegm(&t)) + seconds;
}

double attempt_seconds(const json& info) {
  double sum = 0;
  const auto attempts = info.find("attempts");
  if (attempts == info.end() || !attempts->is_array()) return 0;
  for (const json& attempt : *attempts) {
    const auto from = utc_seconds(value_or<std::string>(attempt, "started", ""));
    const auto to = utc_seconds(value_or<std::string>(attempt, "ended", ""));
    if (from && to && *to > *from) sum += *to - *from;
  }
  return sum;
}

// Whether the same would happen again: usage, data, numbers, and defects of the program.
bool is_final(i64 exit_code) {
  return exit_code == 1 || exit_code == static_cast<int>(Exit::usage) ||
         exit_code == static_cast<int>(Exit::data) || exit_code == static_cast<int>(Exit::nonfinite);
}

bool better(const SweepSpec& spec, double a, double b) {
  return spec.larger_is_better() ? a > b : a < b;
}

// The objective in a line of metrics.jsonl.
std::optional<double> objective_in(const SweepSpec& spec, const json& line) {
  if (value_or<std::string>(line, "kind", "") != "eval") return std::nullopt;
  if (!spec.objective.split.empty() &&
      value_or<std::string>(line, "split", "") != spec.objective.split)
    return std::nullopt;
  const auto metrics = line.find("metrics");
  if (metrics == line.end() || !metrics->is_object()) return std::nullopt;
  const auto found = metrics->find(spec.objective.metric);
  if (found == metrics->end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

void read_metrics(Files& files, const SweepSpec& spec, const std::string& run, TrialResult& trial) {
  for (const json& line : read_json_lines(files, run + "/metrics.jsonl")) {
    const i64 step = value_or<i64>(line, "step", 0);
    trial.steps = std::max(trial.steps, step);
    const auto value = objective_in(spec, line);
    if (!value) continue;
    trial.last = value;
    if (trial.best && !better(spec, *value, *trial.best)) continue;
    trial.best = value;
    trial.best_step = step;
  }
}

// What an open trial last came to.
std::string open_outcome(const json& info, const json& end) {
  const std::string outcome = value_or<std::string>(info, "outcome", "");
  const std::string error = value_or<std::string>(end, "error", "");
  if (!error.empty()) return error;
  if (const i64 code = value_or<i64>(end, "exit_code", 0); code > 128)
    return fmt::format("killed by signal {}", code - 128);
  if (outcome == "running") return "cut off";
  return outcome.empty() ? "not begun" : outcome;
}

}  // namespace

std::string to_string(TrialState state) {
  switch (state) {
    case TrialState::open: return "open";
    case TrialState::done: return "done";
    case TrialState::failed: return "failed";
    case TrialState::stopped_early: return "stopped early";
  }
  return "?";
}

void write_end(Files& files, const std::string& path, const TrialEnd& end) {
  const json object = {{"exit_code", end.exit_code},
                       {"error", end.error},
                       {"stopped_early", end.stopped_early},
                       {"time", utc_now()}};
  write_atomically(files, path,
                   object.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
}

TrialResult read_trial(Files& files, const SweepSpec& spec, const SweepFolder& folder,
                       const SweepPoint& point) {
  TrialResult trial;
  trial.point = point;
  const std::string run = folder.run(point);
  const json info = read_object(files, run + "/run.json");
  const json end = read_object(files, folder.end(point));
  read_metrics(files, spec, run, trial);
  trial.seconds = attempt_seconds(info);
  for (const json* source : {&end, &info})   // the process knows more than the run
    if (!trial.exit_code && source->contains("exit_code"))
      trial.exit_code = value_or<i64>(*source, "exit_code", 1);
  if (value_or<std::string>(info, "outcome", "") == "done") {
    trial.state = TrialState::done;
    trial.exit_code = 0;
    trial.outcome = "done";
  } else if (value_or<bool>(end, "stopped_early", false)) {
    trial.state = TrialState::stopped_early;
    trial.outcome = "stopped early";
  } else if (trial.exit_code && is_final(*trial.exit_code)) {
    trial.state = TrialState::failed;
    trial.outcome = value_or<std::string>(end, "error", "");
    if (trial.outcome.empty()) trial.outcome = value_or<std::string>(info, "outcome", "failed");
  } else {
    trial.outcome = open_outcome(info, end);
  }
  return trial;
}

std::optional<double> score_of(const SweepSpec& spec, const TrialResult& trial) {
  return spec.objective.of == "last" ? trial.last : trial.best;
}

const TrialResult* best_trial(const SweepSpec& spec, const std::vector<TrialResult>& trials) {
  const TrialResult* found = nullptr;
  for (const TrialResult& trial : trials) {
    const auto score = score_of(spec, trial);
    if (trial.state != TrialState::done || !score) continue;
    if (found == nullptr || better(spec, *score, *score_of(spec, *found))) found = &trial;
  }
  return found;
}

std::vector<std::pair<i64, double>> objective_curve(Files& files, const SweepSpec& spec,
                                                    const std::string& run) {
  std::vector<std::pair<i64, double>> curve;
  for (const json& line : read_json_lines(files, run + "/metrics.jsonl")) {
    const auto value = objective_in(spec, line);
    if (!value) continue;
    const bool worse = !curve.empty() && !better(spec, *value, curve.back().second);
    curve.emplace_back(value_or<i64>(line, "step", 0), worse ? curve.back().second : *value);
  }
  return curve;
}

bool worse_than_median(const SweepSpec& spec, const std::vector<std::pair<i64, double>>& curve,
                       const std::vector<std::vector<std::pair<i64, double>>>& others, i64 least) {
  if (curve.empty()) return false;
  const auto [step, value] = curve.back();
  std::vector<double> there;
  for (const auto& other : others) {
    double best = std::nan("");
    for (const auto& [at, reached] : other)
      if (at <= step) best = reached;
    if (!std::isnan(best) && other.back().first >= step) there.push_back(best);
  }
  if (there.empty() || static_cast<i64>(there.size()) < least) return false;
  std::sort(there.begin(), there.end());
  const std::size_t middle = there.size() / 2;
  const double median =
      there.size() % 2 == 1 ? there[middle] : (there[middle - 1] + there[middle]) / 2;
  return better(spec, median, value);
}

}  // namespace cohort
