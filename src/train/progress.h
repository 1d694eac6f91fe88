// What a person sees while training: a bar on a terminal, plain lines otherwise. Rank 0 only.
#pragma once
#include <string>

#include "base/types.h"

namespace cohort {

struct ProgressState {
  i64 epoch = 0, epochs = 0;             // epoch counted from 0
  i64 step = 0, steps = 0;               // done, in all
  double loss = 0, samples_per_s = 0;
  double data_seconds = 0, comm_seconds = 0, total_seconds = 0;   // since the start or resume
  i64 steps_timed = 0;                   // steps that took total_seconds
};

// "epoch 2/10 step 120/600 loss 0.6931 1.23 k/s ETA 3.4 s compute 80% data 15% comm 5%"
std::string progress_text(const ProgressState& state);
// The same with a bar, for `columns` columns.
std::string progress_bar(const ProgressState& state, i64 columns);

class Progress {
 public:
  // Plain lines every `every_steps` steps or 10 s, whichever comes first; a bar 10 times a second.
  Progress(bool terminal, i64 every_steps);
  void show(const ProgressState& state, double now);   // now: seconds_now()
  void finish();                                       // ends the bar's line

 private:
  bool terminal_;
  i64 every_steps_;
  double last_time_ = -1e9;
  i64 last_step_ = 0;
  bool open_line_ = false;
};

}  // namespace cohort
