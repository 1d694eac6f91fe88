// The benchmark workloads: model, fields and synthetic rows. The shapes are those of common PyTorch
// comparisons, small for processors and large for GPUs: see docs/benchmarks.md and
// docs/performance.md.
#pragma once
#include <string>
#include <vector>

#include "data/loader.h"
#include "model/graph.h"
#include "plan/plan.h"

namespace cohort {

struct BenchCase {
  std::string name;
  i64 batch = 1;
  std::vector<Field> fields;
  Graph graph;
  OptimizerConfig optimizer;
};
std::vector<std::string> bench_names();
// `batch` > 0 replaces the workload's own.
BenchCase make_bench_case(const std::string& name, bool gpu, i64 batch);
Batch make_bench_batch(const BenchCase& bench, u64 seed);
std::vector<SparseRows> bench_sparse_rows(const BenchCase& bench, const Batch& batch);

}  // namespace cohort
