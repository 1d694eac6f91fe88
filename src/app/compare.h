// cohort compare: the config keys in which runs differ, their metrics side by side, their curves.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "app/plot.h"
#include "store/files.h"

namespace cohort {

struct CompareOptions {
  std::vector<std::string> runs;        // two or more; with `svg`, one or more
  bool json = false;
  std::string svg, metric;              // file to write curves to, and what its right half shows
};
int run_compare(const CompareOptions& options);

// {"runs": [...], "config": {key: [values]}, "metrics": {"validation/accuracy": [{"final", "best",
// "best_step"}]}}; null where a run has none.
nlohmann::json compare_runs(Files& files, const std::vector<std::string>& runs);
// Training loss, and `metric` of the evaluations (empty: the first that the first run states), both
// over steps; a line is a run. Exit::usage where no run has the metric.
std::vector<PlotPanel> run_curves(Files& files, const std::vector<std::string>& runs,
                                  std::string metric);
// What a run reached: {"steps", "epochs", "train_loss", "samples_per_s", "metrics": {...}}.
nlohmann::json run_summary(Files& files, const std::string& run);

}  // namespace cohort
