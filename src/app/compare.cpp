#include "app/compare.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "app/table.h"
#include "base/error.h"
#include "base/text.h"
#include "train/json_lines.h"
#include "plan/metrics.h"

namespace cohort {
namespace {

using nlohmann::json;

std::string spaces_before(const std::string& line) {
  return line.substr(0, line.find_first_not_of(' '));
}

// Flattens the block-style YAML that Binder::write makes: "a.b.c" -> value. Lists of maps are kept
// as one value.
std::map<std::string, std::string> flatten(const std::string& text) {
  std::map<std::string, std::string> flat;
  std::vector<std::pair<std::size_t, std::string>> path;   // indent, key
  for (const std::string& line : split(text, '\n')) {
    const std::string_view body = trim(line);
    if (body.empty() || body[0] == '#') continue;
    const std::size_t indent = spaces_before(line).size();
    const std::size_t colon = body.find(':');
    const bool item = body[0] == '-';
    while (!path.empty() && (item ? path.back().first > indent : path.back().first >= indent)) {
      path.pop_back();
    }
    std::vector<std::string> keys;
    for (const auto& [at, key] : path) keys.push_back(key);
    if (item || colon == std::string_view::npos) {
      std::string& value = flat[join(keys, ".")];
      value += (value.empty() ? "" : "; ") + std::string(body);
      continue;
    }
    const std::string key(trim(body.substr(0, colon)));
    const std::string value(trim(body.substr(colon + 1)));
    path.emplace_back(indent, key);
    keys.push_back(key);
    if (!value.empty()) flat[join(keys, ".")] = value;
  }
  return flat;
}

void add_eval(json& metrics, const json& line) {
  const std::string split_name = line.value("split", "");
  const json values = line.value("metrics", json::object());
  for (const auto& [name, value] : values.items()) {
    json& entry = metrics[split_name + "/" + name];
    entry["final"] = value;
    if (!value.is_number()) continue;
    const double number = value.get<double>();
    const bool first = !entry.contains("best");
    const double best = first ? 0 : entry["best"].get<double>();
    if (first || (larger_is_better(name) ? number > best : number < best)) {
      entry["best"] = value;
      entry["best_step"] = line.value("step", i64{0});
    }
  }
}

std::string cell(const json& value) {
  if (value.is_null()) return "-";
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  return value.is_string() ? value.get<std::string>() : value.dump();
}

void print_config(const json& report) {
  std::vector<std::vector<std::string>> rows = {{"config key"}};
  for (const json& run : report["runs"]) rows[0].push_back(run.get<std::string>());
  for (const auto& [key, values] : report["config"].items()) {
    rows.push_back({key});
    for (const json& value : values) rows.back().push_back(cell(value));
  }
  if (rows.size() == 1) {
    std::puts("The configs are equal.\n");
  } else {
    std::printf("%s\n", format_table(rows).c_str());
  }
}

void print_metrics(const json& report) {
  std::vector<std::vector<std::string>> rows = {{"metric", "value"}};
  for (const json& run : report["runs"]) rows[0].push_back(run.get<std::string>());
  for (const auto& [name, values] : report["metrics"].items()) {
    for (const char* which : {"final", "best", "best_step"}) {
      rows.push_back({name, which});
      for (const json& value : values) {
        rows.back().push_back(value.is_object() ? cell(value.value(which, json())) : cell(value));
      }
    }
  }
  for (const char* name : {"steps", "epochs", "train_loss", "samples_per_s", "outcome"}) {
    rows.push_back({name, ""});
    for (const json& summary : report["summaries"]) {
      rows.back().push_back(cell(summary.value(name, json())));
    }
  }
  std::fputs(format_table(rows).c_str(), stdout);
}

void check_run(Files& files, const std::string& run) {
  if (!files.exists(run + "/run.json"))
    fail(Exit::usage, "{}: not a run folder (no run.json)", run);
}

void write_curves(const CompareOptions& options) {
  Files& files = real_files();
  write_atomically(files, options.svg,
                   plot_svg(run_curves(files, options.runs, options.metric), "step"));
}

}  // namespace

json run_summary(Files& files, const std::string& run) {
  check_run(files, run);
  json summary = {{"metrics", json::object()}};
  const json info = json::parse(files.read(run + "/run.json"), nullptr, false);
  if (info.is_object()) summary["outcome"] = info.value("outcome", "");
  for (const json& line : read_json_lines(files, run + "/metrics.jsonl")) {
    const std::string kind = line.value("kind", "");
    if (kind == "eval") add_eval(summary["metrics"], line);
    if (kind != "train") continue;
    summary["steps"] = line.value("step", json());
    summary["epochs"] = line.value("epoch", i64{0}) + 1;
    summary["train_loss"] = line.value("loss", json());
    summary["samples_per_s"] = line.value("samples_per_s", json());
  }
  return summary;
}

json compare_runs(Files& files, const std::vector<std::string>& runs) {
  json report = {{"runs", runs},
                 {"config", json::object()},
                 {"metrics", json::object()},
                 {"summaries", json::array()}};
  std::vector<std::map<std::string, std::string>> configs;
  std::set<std::string> keys, names;
  for (const std::string& run : runs) {
    report["summaries"].push_back(run_summary(files, run));
    for (const auto& [name, value] : report["summaries"].back()["metrics"].items()) {
      names.insert(name);
    }
    configs.push_back(flatten(files.read(run + "/config.yaml")));
    for (const auto& [key, value] : configs.back()) keys.insert(key);
  }
  for (const std::string& key : keys) {
    json values = json::array();
    for (const auto& config : configs) {
      const auto found = config.find(key);
      values.push_back(found == config.end() ? json() : json(found->second));
    }
    if (std::any_of(values.begin(), values.end(), [&](const json& v) { return v != values[0]; })) {
      report["config"][key] = values;
    }
  }
  for (const std::string& name : names) {
    for (const json& summary : report["summaries"]) {
      report["metrics"][name].push_back(summary["metrics"].value(name, json()));
    }
  }
  return report;
}

std::vector<PlotPanel> run_curves(Files& files, const std::vector<std::string>& runs,
                                  std::string metric) {
  PlotPanel loss{"training loss", {}, false}, score{"", {}, true};
  const auto number = [](const auto& value) {
    return value.is_number() ? value.template get<double>() : std::nan("");
  };
  for (const std::string& run : runs) {
    check_run(files, run);
    PlotLine losses{run, {}}, scores{run, {}};
    for (const auto& line : read_json_lines<nlohmann::ordered_json>(files, run + "/metrics.jsonl")) {
      const double step = static_cast<double>(line.value("step", i64{0}));
      if (line.value("kind", "") == "train")
        losses.points.push_back({step, number(line.value("loss", nlohmann::ordered_json()))});
      const auto found = line.find("metrics");
      if (found == line.end() || !found->is_object() || found->empty()) continue;
      if (metric.empty()) metric = found->begin().key();
      if (!found->contains(metric)) continue;
      score.title = line.value("split", "") + " " + metric;
      scores.points.push_back({step, number((*found)[metric])});
    }
    loss.lines.push_back(std::move(losses));
    score.lines.push_back(std::move(scores));
  }
  if (score.title.empty())
    fail(Exit::usage, "compare: no evaluation of these runs has the metric '{}'; `cohort compare` "
         "without --metric lists what there is", metric);
  return {std::move(loss), std::move(score)};
}

int run_compare(const CompareOptions& options) {
  if (options.runs.size() < 2 && options.svg.empty())
    fail(Exit::usage, "compare: two run folders or more are needed");
  if (!options.svg.empty()) write_curves(options);
  const json report = compare_runs(real_files(), options.runs);
  if (options.json) {
    std::printf("%s\n", report.dump(1).c_str());
  } else {
    print_config(report);
    print_metrics(report);
  }
  return 0;
}

}  // namespace cohort
