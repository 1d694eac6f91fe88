// Writes checkpoints while training goes on: every rank a slice, from a copy taken between two steps,
// in a thread of its own that uses no communicator. What the ranks tell each other goes through the
// control word: each adds what it has written or failed to write, and when the sums say that all
// have, they exchange what they wrote and rank 0 makes the checkpoint exist.
//
// A failed write is tried again with back-off, then at the second place, then given up with a
// warning: training goes on. Calls are made by the training thread, on all ranks alike.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "train/checkpoint.h"
#include "train/retention.h"

namespace cohort {

struct SaverConfig {
  std::string first, second;   // folders of checkpoints; second may be empty
  std::string attempt;         // a word that no other job on the folder uses, for temporary names
  i64 retries = 3;
  double backoff_s = 1;        // before the first retry; doubles
  std::function<bool()> still_newest;   // called by a thread; false: another job has taken over
};

struct SaverTotals {
  i64 written = 0, given_up = 0, bytes = 0;   // checkpoints; bytes over all ranks
  double copied_s = 0, waited_s = 0;          // that the training thread stood still
  double writing_s = 0;                       // from the copy until it exists
  double slices_s = 0;                        // the slowest rank's file, written and synced
};

class Saver {
 public:
  // Allocates this rank's copy. The tensors' memory is read by begin() alone.
  Saver(Files& files, Communicator& ranks, Device& device, std::vector<NamedTensor> tensors,
        SaverConfig config);
  ~Saver();                    // a write under way is cut short
  i64 slice_bytes() const;     // host memory of this rank's copy
  bool busy() const;           // a checkpoint is being written: begin() must not be called

  // What goes with the tensors. `state` counts on rank 0 alone.
  struct Content {
    i64 step = 0;
    std::string state;         // text of state.json
    Retention retention;       // applied once the checkpoint exists
  };
  // Copies; returns while the writing begins. No step may be running on the device.
  void begin(const Content& content);

  // This rank's part of the control word, for a step that is about to be given to the device.
  struct Word {
    double written = 0, failed = 0;
  };
  Word word() const;
  // The sums of a step that has finished: `step` is its number, `given` counts the steps that the
  // device has been given by now. May exchange a few bytes with the other ranks. Error where another
  // job has taken the run over.
  void note(i64 step, i64 given, const Word& sums);
  // Until no checkpoint is being written. True unless the last one was given up.
  bool wait(i64 given);
  i64 last_step() const;       // of the last checkpoint that exists, -1: none by this object
  void forget_last();          // it was removed
  const std::string& last_error() const;
  const SaverTotals& totals() const;

 private:
  struct State;
  void start_slices();
  void start_completion(const std::vector<std::string>& all);
  void advance(i64 given);
  void failed(const std::string& what);
  void wait_for_job();         // of this rank, whose outcome is then known
  std::shared_ptr<State> state_;
};

}  // namespace cohort
