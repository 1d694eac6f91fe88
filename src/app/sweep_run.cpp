#include "app/sweep_run.h"

#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/env.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"

namespace cohort {
namespace {

std::string replace_all(std::string text, const std::string& from, const std::string& to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

// The experiment of a point; nothing where its values are not valid: the trial itself says why.
std::optional<Experiment> experiment_of(const SweepSpec& spec, const SweepFolder& folder,
                                        const SweepPoint& point) {
  try {
    return Experiment::load(folder.config(), overrides_of(spec, point));
  } catch (const Error&) {
    return std::nullopt;
  }
}

// The GPUs that a trial sees; nothing where it has a host's to itself, or none.
std::string gpus_of(const SweepSlice& slice, const std::optional<Experiment>& experiment) {
  if (slice.places == 1 || !experiment || experiment->device.kind != "cuda" ||
      experiment->device.share_gpu)
    return "";
  const char* shown = std::getenv("CUDA_VISIBLE_DEVICES");
  return gpus_of_place(shown == nullptr ? "" : shown, slice.place, slice.ranks);
}

std::vector<std::string> trial_environment(const SweepSpec& spec, const SweepFolder& folder,
                                           const SweepPoint& point, const SweepSlice& slice) {
  // Fewer ranks than the allocation of the sweep has are meant.
  std::vector<std::string> environment = {fmt::format("COHORT_WORLD_SIZE={}", spec.ranks)};
  // Each mpirun by itself would bind its ranks to the same first cores.
  if (spec.parallel > 1 && !env("OMPI_MCA_hwloc_base_binding_policy"))
    environment.push_back("OMPI_MCA_hwloc_base_binding_policy=none");
  const std::string gpus = gpus_of(slice, experiment_of(spec, folder, point));
  if (!gpus.empty()) environment.push_back("CUDA_VISIBLE_DEVICES=" + gpus);
  return environment;
}

// What stands before the program: nothing for one rank on this host.
std::vector<std::string> launcher_of(const SweepSpec& spec, const SweepSlice& slice, bool gpus) {
  // A trial that has all hosts leaves it to mpirun how many ranks each of a Slurm job's takes.
  const bool placed = slice.spread && (spec.parallel > 1 || !spec.hosts.empty());
  if (spec.ranks == 1 && !placed) return {};
  std::vector<std::string> words = spec.launcher;
  if (placed && words == SweepSpec().launcher) {
    words.insert(words.end(), {"--host", "{hosts}"});
    if (gpus) words.insert(words.end(), {"-x", "CUDA_VISIBLE_DEVICES"});
  }
  for (std::string& word : words) {
    word = replace_all(word, "{ranks}", std::to_string(spec.ranks));
    word = replace_all(word, "{hosts}", join(slice.hosts, ","));
  }
  return words;
}

i64 exit_code_of(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string assignments(const SweepSpec& spec, const SweepPoint& point) {
  std::vector<std::string> parts;
  for (std::size_t k = 0; k < spec.keys.size(); ++k)
    parts.push_back(spec.keys[k].first + "=" + point.values[k]);
  return join(parts, " ");
}

}  // namespace

std::vector<std::string> trial_command(const SweepSpec& spec, const SweepFolder& folder,
                                       const SweepPoint& point, const SweepSlice& slice, i64 cores) {
  const auto experiment = experiment_of(spec, folder, point);
  std::vector<std::string> command = launcher_of(spec, slice, !gpus_of(slice, experiment).empty());
  for (const std::string& word : {this_program(), std::string("train"), folder.config()})
    command.push_back(word);
  for (const std::string& assignment : overrides_of(spec, point)) command.push_back(assignment);
  if (spec.parallel > 1 && experiment && experiment->device.threads == 0)
    command.push_back(fmt::format("device.threads={}",
                                  std::max<i64>(1, cores / (slice.places * slice.ranks))));
  command.push_back("name=" + point.name);
  command.push_back("runs=" + folder.path);
  command.push_back("--resume");
  return command;
}

SweepRunner::SweepRunner(SweepSpec spec, SweepFolder folder)
    : spec_(std::move(spec)), folder_(std::move(folder)), hosts_(sweep_hosts(spec_)) {
  sigemptyset(&signals_);
  for (int number : {SIGTERM, SIGINT, SIGUSR1, SIGCHLD}) sigaddset(&signals_, number);
  const int failed = pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  COHORT_CHECK(failed == 0, "pthread_sigmask refused to block the stop signals");
}

SweepRunner::~SweepRunner() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

bool SweepRunner::run(const std::vector<SweepPoint>& points) {
  queue_.assign(points.begin(), points.end());
  while (!running_.empty() || (!queue_.empty() && !stopping_)) {
    while (!stopping_ && static_cast<i64>(running_.size()) < spec_.parallel && start_one()) {
    }
    if (running_.empty() && queue_.empty()) break;
    wait_for_news();
    reap();
    if (spec_.stop_after > 0 && !stopping_) apply_median_rule();
  }
  return stopping_;
}

// Starts the first of the queue that no other process holds; false where there is none.
bool SweepRunner::start_one() {
  for (std::size_t tried = queue_.size(); tried > 0; --tried) {
    const SweepPoint point = queue_.front();
    queue_.pop_front();
    FileLock lock(folder_.lock(point));
    if (lock.try_take()) {
      // Another process may have run it since.
      if (read_trial(real_files(), spec_, folder_, point).state != TrialState::open) continue;
      start(point, std::move(lock));
      return true;
    }
    queue_.push_back(point);
    if (told_held_.insert(point.index).second)
      log::info("{}: another process still runs it; waiting for that to end", folder_.run(point));
  }
  return false;
}

void SweepRunner::start(const SweepPoint& point, FileLock lock) {
  auto trial = std::make_unique<Running>(Running{point, std::move(lock), 0, free_slot(), 0, 0, false});
  const std::string log_file = folder_.log(point);
  if (real_files().exists(log_file)) trial->log_from = real_files().size(log_file);
  ChildCommand command;
  const SweepSlice slice = slice_of(spec_, hosts_, usable_core_numbers(), trial->slot);
  command.arguments = trial_command(spec_, folder_, point, slice, usable_cores());
  command.environment = trial_environment(spec_, folder_, point, slice);
  command.cores = slice.cores;
  command.output = log_file;
  command.inherited = trial->lock.descriptor();
  trial->started = seconds_now();
  trial->pid = start_child(command);
  log::info("{}: {}", folder_.run(point), assignments(spec_, point));
  running_.push_back(std::move(trial));
}

// Until a child ends or a signal comes, at most a second.
void SweepRunner::wait_for_news() {
  const timespec second{1, 0};
  const int number = sigtimedwait(&signals_, nullptr, &second);
  if (number < 0 && errno != EAGAIN && errno != EINTR)
    fail(Exit::storage, "sigtimedwait: {}", std::strerror(errno));
  if (number > 0 && number != SIGCHLD) on_stop_signal();
}

void SweepRunner::on_stop_signal() {
  // The children get SIGUSR1 when this process ends: their second request, at which they end too.
  if (stopping_) std::_Exit(static_cast<int>(Exit::stopped));
  stopping_ = true;
  log::info("stop requested: {} trials end with checkpoints; a second signal ends them at once",
            running_.size());
  // mpirun hands SIGUSR1 on to the ranks; SIGTERM it keeps, and kills them.
  for (const auto& trial : running_) kill(trial->pid, SIGUSR1);
}

void SweepRunner::reap() {
  for (std::size_t i = 0; i < running_.size();) {
    int status = 0;
    const pid_t ended = waitpid(running_[i]->pid, &status, WNOHANG);
    if (ended < 0 && errno != EINTR) fail(Exit::storage, "waitpid: {}", std::strerror(errno));
    if (ended <= 0) {
      ++i;
      continue;
    }
    const std::unique_ptr<Running> trial = std::move(running_[i]);
    running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(i));
    note_end(*trial, status);
  }
}

void SweepRunner::note_end(const Running& trial, int status) {
  TrialEnd end;
  end.exit_code = exit_code_of(status);
  end.stopped_early = trial.stopped_early && end.exit_code == static_cast<int>(Exit::stopped);
  if (end.exit_code != 0 && real_files().exists(folder_.log(trial.point))) {
    const std::string log = real_files().read(folder_.log(trial.point));
    const std::size_t from = std::min(log.size(), static_cast<std::size_t>(trial.log_from));
    end.error = last_message(log.substr(from), "error");
  }
  write_end(real_files(), folder_.end(trial.point), end);
  const TrialResult result = read_trial(real_files(), spec_, folder_, trial.point);
  const auto score = score_of(spec_, result);
  log::info("{}: {}{}, {} ({} more to go)", folder_.run(trial.point), result.outcome,
            score ? fmt::format(", {} {:.6g}", spec_.objective.metric, *score) : "",
            human_seconds(seconds_now() - trial.started), queue_.size() + running_.size());
}

void SweepRunner::apply_median_rule() {
  std::vector<std::vector<std::pair<i64, double>>> others;
  for (const SweepPoint& point : make_points(spec_)) {
    const TrialResult result = read_trial(real_files(), spec_, folder_, point);
    if (result.state == TrialState::done)
      others.push_back(objective_curve(real_files(), spec_, folder_.run(point)));
  }
  for (const auto& trial : running_) {
    if (trial->stopped_early) continue;
    const auto curve = objective_curve(real_files(), spec_, folder_.run(trial->point));
    if (!worse_than_median(spec_, curve, others, spec_.stop_after)) continue;
    log::info("{}: worse than the median of {} trials at step {}; stopping it",
              folder_.run(trial->point), others.size(), curve.back().first);
    trial->stopped_early = true;
    kill(trial->pid, SIGUSR1);
  }
}

i64 SweepRunner::free_slot() const {
  for (i64 slot = 0;; ++slot) {
    const bool taken = std::any_of(running_.begin(), running_.end(),
                                   [&](const auto& trial) { return trial->slot == slot; });
    if (!taken) return slot;
  }
}

}  // namespace cohort
