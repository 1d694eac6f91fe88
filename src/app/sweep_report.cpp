#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "app/sweep.h"
#include "app/table.h"
#include "base/text.h"

namespace cohort {
namespace {

using nlohmann::json;

json number_or_null(const std::optional<double>& value) { return value ? json(*value) : json(); }

std::string show(const std::optional<double>& value) {
  return value ? fmt::format("{:.6g}", *value) : "-";
}

std::string shorten(const std::string& text, std::size_t most) {
  return text.size() <= most ? text : text.substr(0, most - 3) + "...";
}

std::string quote_csv(const std::string& cell) {
  if (cell.find_first_of(",\"\r\n") == std::string::npos) return cell;
  std::string quoted = "\"";
  for (const char c : cell) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string csv_line(std::vector<std::string> cells) {
  for (std::string& cell : cells) cell = quote_csv(cell);
  return join(cells, ",") + "\r\n";
}

// Best first; those without a value, or that are not done, last.
std::vector<const TrialResult*> ranked(const SweepSpec& spec, const std::vector<TrialResult>& trials) {
  std::vector<const TrialResult*> order;
  for (const TrialResult& trial : trials) order.push_back(&trial);
  const auto is_ranked = [&](const TrialResult& trial) {
    return trial.state == TrialState::done && score_of(spec, trial).has_value();
  };
  std::stable_sort(order.begin(), order.end(), [&](const TrialResult* a, const TrialResult* b) {
    if (is_ranked(*a) != is_ranked(*b)) return is_ranked(*a);
    if (!is_ranked(*a)) return false;
    const double x = *score_of(spec, *a), y = *score_of(spec, *b);
    return spec.larger_is_better() ? x > y : x < y;
  });
  return order;
}

std::string trial_table(const SweepSpec& spec, const std::vector<TrialResult>& trials) {
  const std::string& metric = spec.objective.metric;
  std::vector<std::vector<std::string>> rows = {{"trial"}};
  for (const auto& [name, key] : spec.keys) rows[0].push_back(name);
  for (const std::string& head : {"best " + metric, "last " + metric, std::string("steps"),
                                  std::string("seconds"), std::string("outcome")})
    rows[0].push_back(head);
  for (const TrialResult* trial : ranked(spec, trials)) {
    std::vector<std::string> row = {trial->point.name};
    row.insert(row.end(), trial->point.values.begin(), trial->point.values.end());
    row.push_back(show(trial->best));
    row.push_back(show(trial->last));
    row.push_back(fmt::format("{}", trial->steps));
    row.push_back(fmt::format("{:.1f}", trial->seconds));
    const std::string code = trial->state != TrialState::done && trial->exit_code
                                 ? fmt::format("exit {}: ", *trial->exit_code)
                                 : "";
    row.push_back(shorten(code + trial->outcome, 100));
    rows.push_back(std::move(row));
  }
  return format_table(rows);
}

std::string effect_table(const SweepSpec& spec, const std::vector<TrialResult>& trials) {
  std::vector<std::vector<std::string>> rows = {{"key", "share", "measure", "value", "p", "better"}};
  bool any_computed = false;
  for (const KeyEffect& effect : key_effects(spec, trials)) {
    if (effect.measure.empty()) {
      rows.push_back({effect.key, "-", effect.why_not, "-", "-", "-"});
      continue;
    }
    any_computed = true;
    const bool shown = effect.p < 0.05;
    const std::string better = effect.best_value.empty() ? effect.value < 0 ? "larger" : "smaller"
                                                         : effect.best_value;
    rows.push_back({effect.key, fmt::format("{:.2f}", effect.share), effect.measure,
                    fmt::format("{:.2f}", effect.value), fmt::format("{:.4f}", effect.p),
                    shown ? better : "not shown"});
  }
  std::string text = "Which keys mattered:\n" + format_table(rows);
  if (any_computed)
    text += "share: of the variance of the trials' ranks that a key explains alone; epsilon^2: "
            "between groups of\nequal values (Kelley 1935), spearman: the rank correlation, squared. p: "
            "permutation test, times the\nnumber of keys; 0.05 or more: this sweep does not show that "
            "the key matters.\n";
  return text;
}

}  // namespace

json sweep_report(const SweepSpec& spec, const SweepFolder& folder,
                  const std::vector<TrialResult>& trials) {
  json report = {{"name", spec.name},
                 {"folder", folder.path},
                 {"objective",
                  {{"metric", spec.objective.metric},
                   {"of", spec.objective.of},
                   {"direction", spec.larger_is_better() ? "larger" : "smaller"}}},
                 {"trials", json::array()},
                 {"best", nullptr},
                 {"keys", json::array()}};
  for (const TrialResult& trial : trials) {
    json keys = json::object();
    for (std::size_t k = 0; k < spec.keys.size(); ++k)
      keys[spec.keys[k].first] = trial.point.values[k];
    report["trials"].push_back({{"trial", trial.point.name},
                                {"keys", keys},
                                {"state", to_string(trial.state)},
                                {"outcome", trial.outcome},
                                {"exit_code", trial.exit_code ? json(*trial.exit_code) : json()},
                                {"best", number_or_null(trial.best)},
                                {"best_step", trial.best_step},
                                {"last", number_or_null(trial.last)},
                                {"steps", trial.steps},
                                {"seconds", trial.seconds},
                                {"folder", folder.run(trial.point)}});
  }
  if (const TrialResult* best = best_trial(spec, trials)) report["best"] = best->point.name;
  for (const KeyEffect& effect : key_effects(spec, trials)) {
    json entry = {{"key", effect.key}};
    if (effect.measure.empty()) {
      entry["why_not"] = effect.why_not;
    } else {
      entry["measure"] = effect.measure;
      entry["value"] = effect.value;
      entry["share"] = effect.share;
      entry["p"] = effect.p;
      if (!effect.best_value.empty()) entry["best_value"] = effect.best_value;
    }
    report["keys"].push_back(entry);
  }
  return report;
}

std::string sweep_tables(const SweepSpec& spec, const SweepFolder& folder,
                         const std::vector<TrialResult>& trials) {
  std::string text = trial_table(spec, trials) + "\n";
  if (const TrialResult* best = best_trial(spec, trials)) {
    text += fmt::format("Best: {}, {} {:.6g} at step {}: {}\n", best->point.name,
                        spec.objective.metric, *score_of(spec, *best),
                        spec.objective.of == "last" ? best->steps : best->best_step,
                        folder.run(best->point));
  } else {
    text += "No trial is done with a value of " + spec.objective.metric + ".\n";
  }
  return text + "\n" + effect_table(spec, trials) + folder.path + "/sweep.csv has every trial.\n";
}

std::string sweep_csv(const SweepSpec& spec, const SweepFolder& folder,
                      const std::vector<TrialResult>& trials) {
  std::vector<std::string> head = {"trial"};
  for (const auto& [name, key] : spec.keys) head.push_back(name);
  for (const char* name : {"state", "exit_code", "best", "best_step", "last", "steps", "seconds",
                           "outcome", "folder"})
    head.push_back(name);
  std::string text = csv_line(head);
  const auto exact = [](const std::optional<double>& value) {
    return value ? fmt::format("{}", *value) : std::string();
  };
  for (const TrialResult& trial : trials) {
    std::vector<std::string> row = {trial.point.name};
    row.insert(row.end(), trial.point.values.begin(), trial.point.values.end());
    row.insert(row.end(), {to_string(trial.state),
                           trial.exit_code ? fmt::format("{}", *trial.exit_code) : "",
                           exact(trial.best), trial.best ? fmt::format("{}", trial.best_step) : "",
                           exact(trial.last), fmt::format("{}", trial.steps),
                           fmt::format("{:.3f}", trial.seconds), trial.outcome,
                           folder.run(trial.point)});
    text += csv_line(row);
  }
  return text;
}

}  // namespace cohort
