// The benchmark workloads: model, fields and synthetic rows. The shapes are those of common PyTorch
// comparisons: see docs/benchmarks.md.
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
  Graph graph;
};
std::vector<std::string> bench_names();
BenchCase make_bench_case(const std::string& name);
Batch make_bench_batch(const BenchCase& bench, u64 seed);
std::vector<SparseRows> bench_sparse_rows(const BenchCase& bench, const Batch& batch);
// Multiply-add operations (times 2) of one training step: forward and twice that backward, without
// the input gradient of layers that read the data.
double flops_per_step(const BenchCase& bench);

}  // namespace cohort
