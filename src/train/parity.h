// Is the device that a config names as good as the CPU?
#pragma once
#include "base/error.h"
#include "comm/communicator.h"
#include "train/experiment.h"

namespace cohort {

// `steps` steps on both, each begun from the CPU's state; prints for every tensor the largest
// difference of its gradient (as a share of the step's largest) and of its values after the step
// (as a share of its largest). Exit::nonfinite where a loss or gradient differs by more than the
// precision explains. Writes no run. Collective.
Exit run_parity(World& world, const Experiment& experiment, i64 steps);

}  // namespace cohort
