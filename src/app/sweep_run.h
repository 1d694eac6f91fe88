// Runs the trials of a sweep, some at a time, as processes of this program.
#pragma once
#include <sys/types.h>

#include <csignal>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "app/child.h"
#include "app/sweep_slice.h"
#include "train/sweep_result.h"

namespace cohort {

// The command of a trial: the launcher where it has several ranks or is on another host, then `cohort
// train`. `cores`: of a host; trials get device.threads of their own where several run at a time and
// the experiment leaves the number open.
std::vector<std::string> trial_command(const SweepSpec& spec, const SweepFolder& folder,
                                       const SweepPoint& point, const SweepSlice& slice, i64 cores);

// SIGTERM, SIGINT and SIGUSR1 stop the trials with checkpoints; a second one ends this process at
// once, and the trials with it.
class SweepRunner {
 public:
  SweepRunner(SweepSpec spec, SweepFolder folder);
  ~SweepRunner();
  SweepRunner(const SweepRunner&) = delete;
  SweepRunner& operator=(const SweepRunner&) = delete;
  // Runs those that are open; returns when all have ended, each tried once. True where it was stopped.
  bool run(const std::vector<SweepPoint>& points);

 private:
  struct Running {
    SweepPoint point;
    FileLock lock;
    pid_t pid = 0;
    i64 slot = 0, log_from = 0;
    double started = 0;
    bool stopped_early = false;
  };
  bool start_one();
  void start(const SweepPoint& point, FileLock lock);
  void wait_for_news();
  void on_stop_signal();
  void reap();
  void note_end(const Running& trial, int status);
  void apply_median_rule();
  i64 free_slot() const;
  SweepSpec spec_;
  SweepFolder folder_;
  std::vector<std::string> hosts_;
  std::deque<SweepPoint> queue_;
  std::vector<std::unique_ptr<Running>> running_;
  std::set<i64> told_held_;
  sigset_t signals_{}, before_{};
  bool stopping_ = false;
};

}  // namespace cohort
