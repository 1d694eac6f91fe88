// cohort checkpoint: what a run's checkpoints are, whether they are whole, how two differ, and which
// may go. Exit codes: 0; list 4 where one is damaged; diff 1 where the weights differ.
#pragma once
#include <string>

#include "base/types.h"

namespace cohort {

struct CheckpointOptions {
  std::string path, other;     // a run folder, its checkpoints folder, or a checkpoint
  i64 keep_last = 2;           // prune
  i64 keep_best = 1;
  double keep_every_hours = 0;
  bool dry_run = false;
  bool json = false;
};
int run_checkpoint_list(const CheckpointOptions& options);
int run_checkpoint_diff(const CheckpointOptions& options);
int run_checkpoint_prune(const CheckpointOptions& options);

}  // namespace cohort
