// A sweep: one base experiment, trained once for each point of a grid or of a random search.
//
//   name: rnn-sizes
//   config: configs/behavior-rnn.yaml
//   method: random
//   trials: 20
//   objective: {metric: rmse}
//   keys:
//     optimizer.learning_rate: {log_uniform: [1e-4, 1e-1]}
//     model.layers.0.rnn.units: {choice: [25, 50, 100]}
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "base/config.h"
#include "train/experiment.h"

namespace cohort {

// The values that one key of the experiment may take: exactly one of the first four.
struct SweepKey {
  std::vector<std::string> choice;     // YAML, as behind key= on the command line
  std::vector<double> uniform;         // [low, high]
  std::vector<double> log_uniform;     // [low, high], low > 0
  std::vector<i64> integer;            // [low, high], both ends included
  i64 points = 0;                      // grid: of uniform and log_uniform, evenly spaced
  std::string place;                   // file:line:column
  // Whether the values have an order that a rank correlation may use.
  bool is_range() const { return choice.empty(); }
};

struct SweepObjective {
  std::string metric;                  // of evaluations
  std::string split;                   // empty: the experiment's eval.split
  std::string of = "best";             // best, last: which evaluation of a trial counts
  std::string direction = "auto";      // auto (by the metric), smaller, larger
};

struct SweepSlurm {
  std::vector<std::string> options;    // lines behind #SBATCH
  i64 warning_s = 120;                 // seconds before the time limit that a trial is asked to stop
};

struct SweepSpec {
  std::string name, config;
  std::string runs = "runs";
  std::vector<std::string> set;        // key=value for every trial
  std::string method = "grid";         // grid, random
  i64 trials = 0;                      // random: how many
  u64 seed = 1;                        // random: of the points
  SweepObjective objective;
  std::vector<std::pair<std::string, SweepKey>> keys;
  i64 stop_after = 0;                  // median rule, once so many trials are done; 0: never
  i64 ranks = 1;                       // of a trial
  i64 parallel = 1;                    // trials at a time
  std::vector<std::string> hosts;      // for the trials; empty: those of the Slurm job, or this one
  std::vector<std::string> launcher = {"mpirun", "-n", "{ranks}"};   // where ranks > 1
  SweepSlurm slurm;

  // Reads a file, overrides applied. Exit::usage, with the place.
  static SweepSpec load(const std::string& path, const std::vector<std::string>& overrides);
  static SweepSpec parse(const Document& document);
  std::string text() const;            // loads back equal
  // The text of the keys that decide what is trained, without those of how trials are started.
  std::string identity() const;
  bool larger_is_better() const;
};

void bind(Binder& b, SweepKey& c);
void bind(Binder& b, SweepObjective& c);
void bind(Binder& b, SweepSlurm& c);
void bind(Binder& b, SweepSpec& c);

// One training. A function of the spec and the index alone, so that points can be made anywhere; a
// random search with more trials begins with the same ones.
struct SweepPoint {
  i64 index = 0;
  std::string name;                    // of the run folder: trial-0000
  std::vector<std::string> values;     // one for each of spec.keys, in their order
};
constexpr i64 most_trials = 100000;
// Exit::usage where there are none or more than most_trials.
i64 count_points(const SweepSpec& spec);
SweepPoint make_point(const SweepSpec& spec, i64 index);
std::vector<SweepPoint> make_points(const SweepSpec& spec);
// spec.set and then the point's keys: overrides of the base experiment.
std::vector<std::string> overrides_of(const SweepSpec& spec, const SweepPoint& point);

// Loads every point's experiment. Exit::usage where the metric is not one that is evaluated, or where
// no point at all is a valid experiment: then a key is wrong, not a value.
void check_points(const SweepSpec& spec, const std::vector<SweepPoint>& points);

// What differs between two texts of block-style YAML, as "path: before -> after", at most `most`.
std::vector<std::string> differences(const std::string& before, const std::string& after,
                                     std::size_t most);

}  // namespace cohort
