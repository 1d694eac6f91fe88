#include "app/sweep.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "app/child.h"
#include "app/sweep_run.h"
#include "app/sweep_slurm.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "train/run_folder.h"

namespace cohort {
namespace {

// The base config as the program understands it, so that a comment may change.
std::string understood(const std::string& path) {
  try {
    return Experiment::load(path, {}).text();
  } catch (const Error&) {
    return real_files().read(path);   // complete with the sweep's keys only
  }
}

// Exit::usage where the folder holds another sweep. More trials of a random search are no other one.
void check_unchanged(const SweepSpec& spec, const SweepFolder& folder) {
  SweepSpec before = SweepSpec::load(folder.spec(), {});
  before.config = spec.config;   // its content counts
  if (spec.method == "random" && before.method == "random" && before.trials < spec.trials)
    before.trials = spec.trials;
  std::vector<std::string> found = differences(before.identity(), spec.identity(), 8);
  for (const std::string& line :
       differences(understood(folder.config()), understood(spec.config), 8))
    found.push_back(spec.config + ": " + line);
  if (!found.empty())
    fail(Exit::usage, "{} holds another sweep; --new starts one beside it. What differs:\n  {}",
         folder.path, join(found, "\n  "));
}

void begin_folder(const SweepSpec& spec, const SweepFolder& folder) {
  Files& files = real_files();
  files.make_folder(folder.path + "/logs");
  files.make_folder(folder.path + "/ends");
  write_atomically(files, folder.config(), files.read(spec.config));
  SweepSpec stored = spec;
  stored.config = folder.config();
  write_atomically(files, folder.spec(), stored.text());   // last: the folder is whole now
}

// The sweep's folder, begun where it is new. The spec in it names the config in it, so that what a
// job array runs cannot change under it.
SweepFolder open_folder(const SweepSpec& spec, const SweepOptions& options) {
  real_files().make_folder(spec.runs);
  const std::string base = spec.runs + "/" + spec.name;
  const SweepFolder folder = SweepFolder{
      options.another ? take_free_name(real_files(), base) : base};
  if (options.report && !real_files().exists(folder.spec()))
    fail(Exit::usage, "{}: no sweep there yet; run it without --report first", folder.path);
  real_files().make_folder(folder.path);
  FileLock lock(folder.path + "/lock");
  lock.take();
  if (!real_files().exists(folder.spec())) {
    begin_folder(spec, folder);
    return folder;
  }
  check_unchanged(spec, folder);
  SweepSpec stored = SweepSpec::load(folder.spec(), {});
  if (stored.trials != spec.trials) begin_folder(spec, folder);
  return folder;
}

std::vector<TrialResult> read_all(const SweepSpec& spec, const SweepFolder& folder,
                                  const std::vector<SweepPoint>& points) {
  std::vector<TrialResult> trials;
  for (const SweepPoint& point : points)
    trials.push_back(read_trial(real_files(), spec, folder, point));
  return trials;
}

std::vector<SweepPoint> open_points(const std::vector<TrialResult>& trials) {
  std::vector<SweepPoint> open;
  for (const TrialResult& trial : trials)
    if (trial.state == TrialState::open) open.push_back(trial.point);
  return open;
}

void forget_failures(const SweepFolder& folder, std::vector<TrialResult>& trials) {
  for (TrialResult& trial : trials) {
    if (trial.state != TrialState::failed) continue;
    // The run's own record of it is written anew when the run goes on.
    TrialEnd end;
    end.exit_code = static_cast<int>(Exit::stopped);
    write_end(real_files(), folder.end(trial.point), end);
    trial.state = TrialState::open;
  }
}

void report(const SweepSpec& spec, const SweepFolder& folder, const SweepOptions& options,
            const std::vector<TrialResult>& trials) {
  write_atomically(real_files(), folder.path + "/sweep.csv", sweep_csv(spec, folder, trials));
  const std::string text = options.json ? sweep_report(spec, folder, trials).dump(1) + "\n"
                                        : sweep_tables(spec, folder, trials);
  std::fputs(text.c_str(), stdout);
}

// What the sweep as a whole ends with.
int exit_code_of(const std::vector<TrialResult>& trials, bool stopped) {
  i64 done = 0, open = 0, first_failure = 0;
  bool any_stopped = stopped;
  for (const TrialResult& trial : trials) {
    done += trial.state == TrialState::done;
    open += trial.state == TrialState::open;
    any_stopped = any_stopped || (trial.state == TrialState::open &&
                                  trial.exit_code == static_cast<int>(Exit::stopped));
    if (trial.state == TrialState::failed && first_failure == 0)
      first_failure = trial.exit_code.value_or(1);
  }
  if (open > 0) {
    log::info("{} trials are open: the same command goes on with them", open);
    return static_cast<int>(any_stopped ? Exit::stopped : Exit::lost);
  }
  return done > 0 ? 0 : static_cast<int>(first_failure);
}

int run_task(SweepSpec spec, const SweepFolder& folder, i64 task) {
  const i64 points = count_points(spec);
  if (task >= points)
    fail(Exit::usage, "--task {}: the sweep has the trials 0 to {}", task, points - 1);
  spec.parallel = 1;   // the array decides how many run at a time, and where
  spec.hosts.clear();
  const SweepPoint point = make_point(spec, task);
  if (read_trial(real_files(), spec, folder, point).state == TrialState::open)
    SweepRunner(spec, folder).run({point});
  const TrialResult trial = read_trial(real_files(), spec, folder, point);
  log::info("{}: {}", folder.run(point), trial.outcome);
  if (trial.state == TrialState::done || trial.state == TrialState::stopped_early) return 0;
  const i64 code = trial.exit_code.value_or(static_cast<i64>(Exit::stopped));
  // Killed, or mpirun's code for that: its rank was lost.
  return static_cast<int>(code > 128 ? static_cast<i64>(Exit::lost) : code);
}

// Where the sweep's own copy is given, as a job array does, its folder is known.
SweepFolder folder_of(const SweepSpec& spec, const SweepOptions& options) {
  const std::string suffix = "/sweep.yaml";
  if (options.file.size() > suffix.size() && !options.another &&
      options.file.compare(options.file.size() - suffix.size(), suffix.size(), suffix) == 0) {
    const SweepFolder folder{options.file.substr(0, options.file.size() - suffix.size())};
    if (spec.config == folder.config()) return folder;
  }
  return open_folder(spec, options);
}

void check_options(const SweepOptions& o) {
  const int ways = int{o.task >= 0} + int{o.slurm} + int{o.report};
  if (ways > 1) fail(Exit::usage, "--task, --slurm and --report exclude each other");
  if (o.another && (o.task >= 0 || o.report))
    fail(Exit::usage, "--new begins a sweep; it goes with neither --task nor --report");
}

}  // namespace

int run_sweep(const SweepOptions& options) {
  check_options(options);
  SweepSpec spec = SweepSpec::load(options.file, options.overrides);
  if (options.parallel > 0) spec.parallel = options.parallel;
  const std::vector<SweepPoint> points = make_points(spec);
  check_points(spec, points);
  const SweepFolder folder = folder_of(spec, options);
  if (options.task >= 0) return run_task(std::move(spec), folder, options.task);
  std::vector<TrialResult> trials = read_all(spec, folder, points);
  if (options.retry) forget_failures(folder, trials);
  const std::vector<SweepPoint> open = open_points(trials);
  if (options.slurm) {
    if (open.empty()) fail(Exit::usage, "{}: no trial is open", folder.path);
    submit_array(spec, folder, open);
    return 0;
  }
  bool stopped = false;
  if (!options.report) {
    log::info("{}: {} of {} trials to run, {} at a time", folder.path, open.size(), points.size(),
              spec.parallel);
    stopped = SweepRunner(spec, folder).run(open);
    trials = read_all(spec, folder, points);
  }
  report(spec, folder, options, trials);
  return options.report ? 0 : exit_code_of(trials, stopped);
}

}  // namespace cohort
