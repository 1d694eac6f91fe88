// The inside of a plan: built by compile*.cpp, run by run.cpp.
#pragma once
#include <array>
#include <map>
#include <memory>
#include <set>
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
  i64 node = 0;
  Pass pass = Pass::forward;
  bool whole = true;          // the last phase: the node's results are there
};

struct Bucket {
  View range;                 // dense: elements of the gradient arena
  i64 table = -1;             // or the row segment of this table
};

// What the host sends before a pass, as offsets in a slot: the small things that kernels read at a
// fixed address come first, the raw inputs that only ingest reads follow.
struct Staging {
  i64 scalars = 0, word = 0, active = 0, row_id = 0, position = 0;
  std::vector<i64> lengths;   // per input; -1: not ragged
  std::vector<i64> slots, rows;   // per table
  std::vector<i64> ids;       // per table: ids of a pass, a number and no offset
  i64 fixed_bytes = 0;
  std::vector<i64> data;      // per input
  i64 bytes = 0;
};

constexpr i64 most_requests = 5;
constexpr i64 word_size = 3 + most_requests;   // loss, weight, valid rows, requests

// What a pass is made of; a step is one pass, or several where it accumulates.
struct Pace {
  bool first = true, last = true, update = false;
};

struct StepArguments {
  const Batch* batch = nullptr;
  const std::vector<SparseRows>* sparse = nullptr;
  const std::vector<double>* requests = nullptr;
  double learning_rate = 0;
  bool update = false;
};

// A step given to the device whose result the host has not asked for.
struct Pending {
  i64 slot = 0;               // of its last pass
  std::size_t requests = 0;
  bool update = false, collected = false;
  double loss_sum = 0;
  StepResult result;
};

struct Plan::Impl {
  Impl(Device& device, const Graph& graph, ModelState& state, const PlanConfig& config);

  // compile.cpp
  void lay_out_staging();
  void stage_inputs();
  void compile_nodes();
  Call bind(i64 node, Pass pass, const Needs& needs) const;
  void compile_pass(i64 node, Pass pass);
  void compile_ingest(Call call, i64 input);
  void bind_gradients(Call& call);
  View value_view(i64 value) const;
  View gradient_view(i64 value) const;
  View lengths_of(i64 value) const;
  bool sync_spans_ranks(const Needs& needs) const;
  void note(const Call& call);
  // compile_update.cpp
  void cut_buckets();
  void mark_bucket_steps(const std::vector<i64>& done_step);
  void compile_update();
  void compile_norms();

  // run.cpp
  void begin(const StepArguments& arguments, Reducer* reducer);
  void collect(Pending& step, Reducer* reducer);
  StepResult finish(Reducer* reducer);
  void run_pass(const StepArguments& arguments, i64 micro, const Pace& pace, Reducer* reducer);
  void fill(char* host, const StepArguments& arguments, i64 micro);
  void fill_sparse(char* host, const std::vector<SparseRows>& sparse, i64 micro);
  void start_pass(const Slot& slot, bool first);
  void give(const Slot& slot, const Pace& pace, Reducer* reducer);
  void give_nodes(const Slot& slot, bool submit, Reducer* reducer);
  void give_end(const Pace& pace, Reducer* reducer);
  void give_update();
  View treated(const TableState& table) const;
  StepResult infer(const Batch& batch);
  // replay.cpp
  NonFinite find_nonfinite(const StepArguments& arguments, Reducer* reducer);
  std::vector<double> read_value(i64 value, i64 rows) const;
  Memory memory() const;
  std::vector<StepCost> costs() const;
  Launches launches();

  Device& device;
  const Graph& graph;
  ModelState& state;
  PlanConfig config;
  MemoryMap map;
  std::vector<i64> saved_bytes;     // per node
  Staging staging;
  std::vector<Slot> slots;
  i64 next_slot = 0;
  char* fixed = nullptr;            // device memory: what kernels read of the running pass
  View arena, scratch;              // bytes
  View results;                     // bytes: word, Decision and WorkClock, as they go to the host
  View loss;                        // f64 [2]: sums of loss and weight
  View squares;                     // f64 [norms]
  std::vector<std::vector<std::unique_ptr<Kernel>>> ingest;   // per slot
  std::vector<PlanStep> steps;
  std::vector<Bucket> buckets;
  std::vector<char> gradient_written;   // per value, while compiling backward
  std::vector<std::unique_ptr<Kernel>> norms, updates;
  std::unique_ptr<Kernel> decision;
  std::map<std::vector<i64>, std::unique_ptr<Kernel>> recorded;
  std::set<std::array<bool, 4>> given;   // kinds of pass that the device has run
  std::vector<Pending> pending;     // steps begun and not finished, oldest first
  std::vector<std::string> lines;
};

}  // namespace cohort
