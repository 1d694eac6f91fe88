// Times of training steps, and of the two operations that they are compared with.
#pragma once
#include "app/bench_cases.h"
#include "plan/plan.h"

namespace cohort {

struct BenchPlan {
  BenchPlan(const BenchCase& bench, Device& device);
  ModelState state;
  Plan plan;
};

struct StepTime {
  double seconds = 0;        // of a step, the device being given the next before one is waited for
  double host_seconds = 0;   // of that, giving it: staging the batch and launching
  i64 steps = 0;             // run in all
  i64 skipped = 0;           // not finite
  Launches launches;         // of a recorded step
};
// The median of groups of steps over eight different batches, for about `budget` seconds.
StepTime time_steps(const BenchCase& bench, Device& device, double budget);

// FLOP/s of a large matrix product, bytes/s of copying within the device (read and written ones).
double gemm_ceiling(Device& device);
double copy_ceiling(Device& device);

}  // namespace cohort
