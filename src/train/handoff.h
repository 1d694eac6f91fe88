// Checkpoints that a training hands to serving while it goes on (docs/serving.md). How: app/handoff.h.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "train/experiment.h"

namespace cohort {

struct HandoffTotals {
  i64 promoted = 0, not_promoted = 0, failed = 0;
};

// On rank 0, called by the training thread. What fails is told by a warning: nothing is thrown.
class Handoff {
 public:
  virtual ~Handoff() = default;                // ends one that is under way
  // Begins to export and publish a checkpoint that exists. While another one is under way it waits,
  // in place of one that waits already; only the best evaluated so far takes the place of a best one.
  // One that an attempt has handed over is not handed over again.
  virtual void begin(const std::string& checkpoint, i64 step, bool best) = 0;
  virtual void poll() = 0;                     // tells how one has ended, begins the one that waits
  virtual void wait() = 0;                     // for all
  virtual std::vector<i64> steps() const = 0;  // under way or waiting, ascending: they must stay
  virtual const HandoffTotals& totals() const = 0;
};

// `run` is the run's folder; `config.metric` is never empty.
using HandoffMaker =
    std::function<std::unique_ptr<Handoff>(const HandoffConfig& config, const std::string& run)>;

}  // namespace cohort
