// cohort bench: training-step throughput of the benchmark workloads on this machine.
#pragma once
#include <string>
#include <vector>

#include "base/types.h"

namespace cohort {

struct BenchOptions {
  std::vector<std::string> workloads;   // empty: all
  std::string device = "cpu";           // cpu, cuda: also chooses the shapes
  i64 threads = 1;
  std::string isa = "auto";
  std::string precision = "f32";        // f32, tf32, bf16, f16: of a GPU
  bool no_graph = false;                // a GPU's steps eagerly
  i64 batch = 0;                        // 0: the workload's own
  double seconds = 2;                   // per workload
  bool floor = false;                   // no timing and no device: what a step costs at least
  bool plan = false;                    // no timing: the plan's list and what a GPU launches
  bool json = false;
};
int run_bench(const BenchOptions& options);

}  // namespace cohort
