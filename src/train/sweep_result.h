// What the trials of a sweep reached, read from their run folders, and which keys mattered.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "store/files.h"
#include "train/sweep.h"

namespace cohort {

enum class TrialState {
  open,        // not begun, stopped or lost: the next call goes on with it
  done,
  failed,      // would fail again: config, data, numbers, a defect
  stopped_early,   // by the median rule
};
std::string to_string(TrialState state);

// How a process of a trial ended, kept in the sweep's folder: a trial may fail before it has a run.
struct TrialEnd {
  i64 exit_code = 0;         // 128 + the signal's number where one killed it
  std::string error;         // the last error it wrote; empty: none
  bool stopped_early = false;
};

struct TrialResult {
  SweepPoint point;
  TrialState state = TrialState::open;
  std::string outcome = "not begun";   // for people
  std::optional<i64> exit_code;
  std::optional<double> best, last;    // of the objective
  i64 best_step = 0, steps = 0;
  double seconds = 0;                  // of all attempts that said when they ended
};

// Folders and files of a sweep.
struct SweepFolder {
  std::string path;                    // <runs>/<name>
  std::string run(const SweepPoint& point) const { return path + "/" + point.name; }
  std::string end(const SweepPoint& point) const { return path + "/ends/" + point.name + ".json"; }
  std::string lock(const SweepPoint& point) const { return path + "/ends/" + point.name + ".lock"; }
  std::string log(const SweepPoint& point) const { return path + "/logs/" + point.name + ".log"; }
  std::string spec() const { return path + "/sweep.yaml"; }
  std::string config() const { return path + "/base.yaml"; }
};

void write_end(Files& files, const std::string& path, const TrialEnd& end);
// From the run folder and the end of its last process.
TrialResult read_trial(Files& files, const SweepSpec& spec, const SweepFolder& folder,
                       const SweepPoint& point);
// The objective's value that counts: best or last.
std::optional<double> score_of(const SweepSpec& spec, const TrialResult& trial);
// The best trial that is done; null where none has a value.
const TrialResult* best_trial(const SweepSpec& spec, const std::vector<TrialResult>& trials);

// (step, best value up to there) of every evaluation in a run's metrics.jsonl.
std::vector<std::pair<i64, double>> objective_curve(Files& files, const SweepSpec& spec,
                                                    const std::string& run);
// The median rule: whether `curve` at its last step is worse than the median of `others` at that
// step (Golovin et al., "Google Vizier", KDD 2017, section 3.2.1). False under `least` others that
// have come so far.
bool worse_than_median(const SweepSpec& spec, const std::vector<std::pair<i64, double>>& curve,
                       const std::vector<std::vector<std::pair<i64, double>>>& others, i64 least);

// How much a key explains of the differences between trials, by ranks of the objective's value, so that
// one diverged trial does not decide.
//   choice, integer of a grid and the like: epsilon squared, the share of the ranks' variance that lies
//     between the groups of equal values, less what chance alone gives k groups of n trials:
//     1 - (1 - eta^2) (n - 1) / (n - k)  (T. L. Kelley, PNAS 21(9), 1935)
//   ranges of a random search: Spearman's rank correlation (Am. J. Psychology 15(1), 1904); share: its
//     square
//   p: permutation test over 9999 shuffles, (1 + as extreme) / 10000 (Phipson & Smyth, SAGMB 9(1),
//     2010), times the number of keys (Bonferroni)
struct KeyEffect {
  std::string key;
  std::string measure;       // "epsilon^2", "spearman"; empty: not computed
  double value = 0;          // epsilon^2 or the correlation
  double share = 0;          // of the ranks' variance, 0 to 1
  double p = 1;
  std::string best_value;    // groups: the value with the best mean rank
  std::string why_not;       // where nothing is claimed
};
constexpr i64 least_trials_for_effects = 8;
std::vector<KeyEffect> key_effects(const SweepSpec& spec, const std::vector<TrialResult>& trials);

}  // namespace cohort
