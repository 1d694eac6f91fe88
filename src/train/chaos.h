// Failures on purpose, so that operators rehearse: `cohort train --chaos EVENT,EVENT,...`.
//
//   kill-rank=2@step=500      rank 2 kills itself (SIGKILL) before step 500
//   hang-rank=1@step=9        rank 1 does nothing any more from step 9 on
//   slow-rank=1:3x            rank 1 takes three times as long to compute, until the job ends
//   slow-reads=1:50ms         each read of rank 1 takes 50 ms more, until the job ends
//   nan@step=7                a value of rank 0 in step 7 is not a number; nan=2@step=7: of rank 2
//   disk-full@checkpoint=3    the third checkpoint of the job finds no space left
//   corrupt-latest            a start that finds two checkpoints or more damages the newest
//
// Without @step: the job's first step. Each event happens once in a run folder: who is about to
// begin it takes the folder chaos/<event> first.
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "store/files.h"

namespace cohort {

struct ChaosEvent {
  enum class Kind { kill_rank, hang_rank, slow_rank, slow_reads, nan, disk_full, corrupt_latest };
  Kind kind = Kind::kill_rank;
  std::string text;          // as given: the event's name
  i64 rank = 0;
  i64 step = -1;             // -1: the job's first
  i64 checkpoint = 0;        // counted from 1
  double amount = 0;         // slow_rank: factor; slow_reads: seconds
};

// Exit::usage naming the event and what was expected of it.
std::vector<ChaosEvent> parse_chaos(const std::string& text);

class Chaos {
 public:
  Chaos(const std::vector<ChaosEvent>& events, i64 rank, i64 ranks);
  // The run's folder is known: events that have happened in it are dropped. One of a rank that the job
  // does not have is Exit::usage; in a run that has begun before, perhaps on more ranks, it is dropped
  // with a warning. The same on all ranks.
  void open(Files& files, const std::string& run);
  // Of rank 0, before the newest checkpoint is looked for in this folder.
  void before_resume(const std::string& checkpoints);
  // This rank is about to begin a step; `first` is the job's first. May not return.
  void before_step(i64 step, i64 first);
  // Whether a value of this step is to be made not a number, on this rank.
  bool poisons(i64 step, i64 first);
  // Whether steps must not overlap here: a step that `poisons` begins or ends. Alike on all ranks.
  bool is_edge(i64 steps_done, i64 first) const;
  double slowness() const { return slowness_; }        // factor on the time to compute
  double read_delay() const { return read_delay_; }    // seconds; any thread may ask

  // The files of a run whose checkpoints find the disk full; null where no event says so. A thread
  // that writes may use them beside the calls above.
  std::unique_ptr<Files> faulty(Files& files);

 private:
  struct Pending : ChaosEvent { bool open = true; };
  bool take(Pending& event);
  std::vector<Pending> events_;
  i64 rank_, ranks_;
  Files* files_ = nullptr;
  std::string folder_;
  double slowness_ = 1;
  std::atomic<double> read_delay_{0};
};

}  // namespace cohort
