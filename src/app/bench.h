// cohort bench: training-step throughput of the benchmark workloads on this machine.
#pragma once
#include <string>
#include <vector>

#include "base/types.h"

namespace cohort {

struct BenchOptions {
  std::vector<std::string> workloads;   // empty: all
  i64 threads = 1;
  std::string isa = "auto";
  double seconds = 2;                   // per workload
  bool json = false;
};
int run_bench(const BenchOptions& options);

}  // namespace cohort
