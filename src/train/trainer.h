// The training loop.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "train/handoff.h"
#include "train/run_folder.h"
#include "train/session.h"

namespace cohort {

struct TrainOptions {
  RunMode mode = RunMode::fresh;
  std::string chaos;   // failures on purpose, see train/chaos.h; empty: none
  HandoffMaker handoff;   // for handoff.repo; empty: nothing is handed over
  TrainOptions(RunMode run_mode, std::string events = "")
      : mode(run_mode), chaos(std::move(events)) {}
};

// Trains; every rank calls it. Returns the exit code: done, or stopped on request (with a
// checkpoint). Errors are thrown; a rank that alone sees one must abort the job.
Exit train(World& world, const Experiment& experiment, const TrainOptions& options);

// Asks the loop to stop at the edge of a step, with a checkpoint. Safe in a signal handler.
void request_stop();

}  // namespace cohort
