// cohort compare: the config keys in which runs differ, and their metrics side by side.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "store/files.h"

namespace cohort {

struct CompareOptions {
  std::vector<std::string> runs;
  bool json = false;
};
int run_compare(const CompareOptions& options);

// {"runs": [...], "config": {key: [values]}, "metrics": {"validation/accuracy": [{"final", "best",
// "best_step"}]}}; null where a run has none.
nlohmann::json compare_runs(Files& files, const std::vector<std::string>& runs);
// What a run reached: {"steps", "epochs", "train_loss", "samples_per_s", "metrics": {...}}.
nlohmann::json run_summary(Files& files, const std::string& run);

}  // namespace cohort
