// Which checkpoints of a run are kept.
#pragma once
#include <string>
#include <vector>

#include "train/checkpoint.h"

namespace cohort {

struct Retention {
  i64 keep_last = 2;            // newest ones, at least 1
  std::vector<i64> best;        // steps of the best ones
  double every_hours = 0;       // of the rest, one for every so many hours; 0: none
};

// Steps that may go. Besides what `retention` names, the newest one with finite values stays.
std::vector<i64> steps_to_remove(const std::vector<CheckpointFacts>& present,
                                 const Retention& retention);
// Removes them; returns what was removed. One that cannot be read stays: a storage that fails for a
// while would cost checkpoints that are good.
std::vector<i64> prune(Files& files, const std::string& folder, const Retention& retention);

}  // namespace cohort
