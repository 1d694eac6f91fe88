// The inside of a plan: built by compile.cpp, run by run.cpp.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "plan/memory.h"
#include "plan/plan.h"

namespace cohort {

// One entry of the flat list: a kernel, then what must happen after it.
struct PlanStep {
  std::unique_ptr<Kernel> kernel;
  View sync;                  // f64 to be summed over ranks before the next step, or null
  std::vector<i64> buckets;   // gradient buckets that are complete after this step
};

struct Bucket {
  View range;                 // dense: elements of the gradient arena
  i64 table = -1;             // or the row segment of this table
};

// One operand staged from the host for every pass.
struct Staged {
  View data, lengths;
};

struct StepArguments {
  const Batch* batch = nullptr;
  const std::vector<SparseRows>* sparse = nullptr;
  const std::vector<double>* requests = nullptr;
};

struct Plan::Impl {
  Impl(Device& device, const Graph& graph, ModelState& state, const PlanConfig& config);

  // compile.cpp
  void stage_inputs();
  void compile_nodes();
  Call bind(i64 node, Pass pass, const Needs& needs) const;
  void compile_pass(i64 node, Pass pass);
  void bind_gradients(Call& call);
  void cut_buckets();
  void mark_bucket_steps(const std::vector<i64>& done_step);
  void compile_update();
  View value_view(i64 value) const;
  View gradient_view(i64 value) const;
  View lengths_of(i64 value) const;
  bool sync_spans_ranks(const Needs& needs) const;

  // run.cpp
  void load(const Batch& batch, i64 first_row);
  void load_sparse(const std::vector<SparseRows>& sparse, i64 micro);
  void run_forward_backward(CollectiveQueue* queue, bool submit);
  void submit_bucket(const Bucket& bucket, CollectiveQueue* queue);
  StepResult reduce_gradients(const StepArguments& arguments, CollectiveQueue* queue);
  void update(StepResult& result, double learning_rate);
  StepResult infer(const Batch& batch);
  std::vector<double> read_value(i64 value, i64 rows) const;
  Memory memory() const;

  Device& device;
  const Graph& graph;
  ModelState& state;
  PlanConfig config;
  Scalars scalars;
  MemoryMap map;
  View arena, scratch;              // bytes
  std::vector<Staged> inputs;
  View row_id, position;
  std::vector<View> slots;          // per table: i32, shaped like its ids
  View loss;                        // f64 [2]: sums of loss and weight
  View norm;                        // f64 [1]
  std::vector<PlanStep> steps;
  std::vector<Bucket> buckets;
  std::vector<char> gradient_written;   // per value, while compiling backward
  std::vector<std::unique_ptr<Kernel>> norms, updates;
  double running_rows = 0;          // valid rows of the global batch, for running statistics
  std::vector<double> control;
  std::vector<i64> tickets;
  std::vector<std::string> lines;
};

}  // namespace cohort
