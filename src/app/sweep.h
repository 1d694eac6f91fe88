// cohort sweep: many trainings of one experiment, each a process and a run folder of its own.
//
//   <runs>/<name>/sweep.yaml, base.yaml   what was asked for: a changed sweep is refused
//   <runs>/<name>/trial-0000/             a run folder
//   <runs>/<name>/logs/trial-0000.log     what its processes wrote
//   <runs>/<name>/ends/trial-0000.json    how its last process ended; .lock: held while one runs
//   <runs>/<name>/sweep.csv               every trial, when the sweep ends
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "train/sweep_result.h"

namespace cohort {

struct SweepOptions {
  std::string file;
  std::vector<std::string> overrides;
  i64 parallel = 0;        // 0: the file's
  i64 task = -1;           // one trial alone
  bool slurm = false, report = false, another = false, retry = false, json = false;
};
// Returns the exit code: done where every trial has ended and one of them is done; stopped (75) on
// request or where a trial was; lost (5) where a trial was cut off: the same command goes on. With
// `task` the trial's own code.
int run_sweep(const SweepOptions& options);

// The report: {"name", "folder", "objective", "trials": [...], "best", "keys": [...]}.
nlohmann::json sweep_report(const SweepSpec& spec, const SweepFolder& folder,
                            const std::vector<TrialResult>& trials);
// The same for people, and as CSV (RFC 4180).
std::string sweep_tables(const SweepSpec& spec, const SweepFolder& folder,
                         const std::vector<TrialResult>& trials);
std::string sweep_csv(const SweepSpec& spec, const SweepFolder& folder,
                      const std::vector<TrialResult>& trials);

}  // namespace cohort
