// How a graph is computed here: a flat list of kernels with memory placed, buckets and collectives
// in one fixed order. Nothing is allocated and nothing is decided during a step.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "data/loader.h"
#include "model/optimizer.h"
#include "plan/cost.h"
#include "plan/state.h"

namespace cohort {

// The rows of one sparse table that a step touches: the sorted union over ranks, and for every id
// of this rank's batch its place in `rows` (-1: no row).
struct SparseRows {
  std::vector<i32> rows;
  std::vector<i32> slots;
};

struct PlanConfig {
  i64 global_batch = 1;
  i64 rows = 1;               // capacity of one pass (a micro batch)
  i64 micro_batches = 1;
  bool train = false;
  u64 seed = 0;
  int rank = 0, world = 1;
  i64 bucket_bytes = 1 << 22;
  OptimizerConfig optimizer;
};

struct StepResult {
  double loss = 0;            // mean over the global weight
  double weight = 0;          // global weight sum
  double grad_norm = 0;
  bool skipped = false;       // not finite: nothing was changed
  std::vector<double> requests;   // summed over ranks, in the order given
  double comm_seconds = 0;    // waited for collectives after compute had ended
  double device_seconds = 0;  // a GPU's own work, waiting for sums left out; else 0
};

// The first tensor of a step that is not finite on this rank, in the order of the kernels.
struct NonFinite {
  i64 order = -1;             // counted over passes and kernels; -1: all are finite here
  std::string tensor;         // "output of dense 'hidden'", "gradient of parameter hidden.weight"
  std::vector<i64> rows;      // of the batch, whose values are not finite
  i64 largest_row = -1;       // where the tensor is a sum over rows: the largest term's row
  double largest = 0;         // and its magnitude
};

class Plan {
 public:
  Plan(Device& device, const Graph& graph, ModelState& state, const PlanConfig& config);
  ~Plan();

  // Gives one training step over a batch of micro_batches * rows rows at most to the device; the
  // batch is not needed after. At most five requests. `reducer` is null with one rank.
  void begin(const Batch& batch, const std::vector<SparseRows>& sparse,
             const std::vector<double>& requests, Reducer* reducer, double learning_rate);
  // Waits for the oldest step begun and not finished. Steps may run before they are finished:
  // ahead() of them at once keep the device busy.
  StepResult finish(Reducer* reducer);
  i64 ahead() const;
  // begin() and finish().
  StepResult step(const Batch& batch, const std::vector<SparseRows>& sparse,
                  const std::vector<double>& requests, Reducer* reducer, double learning_rate);
  // Forward and backward only, reduced over ranks, weights untouched: state.grads hold the sums.
  StepResult gradients(const Batch& batch, const std::vector<SparseRows>& sparse,
                       Reducer* reducer);
  // Does a step again, on every rank, kernel by kernel, to find what was not finite. Changes nothing
  // but the gradients; what was begun and not finished may have changed the weights meanwhile.
  NonFinite find_nonfinite(const Batch& batch, const std::vector<SparseRows>& sparse,
                           Reducer* reducer);
  // Forward of rows [0, batch.valid). Loss and weight sums of these rows are returned (not means).
  StepResult infer(const Batch& batch);
  // Copies of graph.prediction and of the prediction's target after infer(): real as double.
  std::vector<double> prediction(i64 rows) const;
  std::vector<double> target(i64 rows) const;

  // One line per step with what it costs at least, and the memory table.
  std::string print() const;
  std::vector<StepCost> costs() const;   // of a training step, with what the device saves
  Launches launches() const;             // of a recorded training step; none where nothing records
  // "6 recordings of passes, at most 258 kernels each, 3.1 MiB"; empty where nothing is recorded.
  std::string recordings() const;
  // Bytes. `snapshot`: host memory for checkpoints, which the plan does not know of.
  struct Memory { i64 params, grads, slots, activations, staging, snapshot = 0; };
  Memory memory() const;
  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

// "memory: params 1 MiB, gradients ...": the snapshot where there is one.
std::string to_text(const Plan::Memory& memory);

// Input columns whose ids feed a sparse table, in the order of ModelState::tables:
// column index into Graph::inputs.
std::vector<i64> sparse_inputs(const Graph& graph);
// Rows the gradient segment of each parameter can need: min(table rows, ids in a global batch).
std::vector<i64> row_capacities(const Graph& graph, i64 global_batch);

}  // namespace cohort
