// A device compiles operations bound to memory into kernels. Four implementations: cpu (oneDNN and
// own kernels, fp32), reference (float64, plain loops), null (runs nothing), later cuda.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "device/decide.h"
#include "model/graph.h"

namespace cohort {

// What a pass is told by the host. In device memory, staged before each pass: kernels read it when
// they run.
struct Scalars {
  i64 epoch = 0;
  i64 valid = 0;              // rows in use; rows >= valid are padding and must never be summed
  double learning_rate = 0;
};

enum class Pass : u8 { forward, backward };

// One op bound to memory. Row capacity `rows` leads every activation shape. Rules:
// * forward overwrites `out`. Sequences: `lengths[i]` belongs to in[i] (data null if not ragged).
// * backward overwrites d_in[i] (accumulates where accumulate[i]); d_in[i].data null: not wanted.
//   in/out hold the forward values.
// * d_param is ALWAYS accumulated into; the plan zeroes it once a step. For a sparse embedding,
//   d_param[0] is the row segment [capacity, dim], and `slots` (i32, like the ids) gives the row
//   of each id, -1: none.
// * BatchNorm in training has two phases each way. Groups: op.groups, or max(1, global_batch / 32)
//   where that is 0; a row belongs to group position * groups / global_batch.
//   forward 0: zeroes `sync` and puts there, per group, what the statistics need of this rank's
//   valid rows (valid steps of a sequence). [The plan adds sync over ranks if a group is split
//   between them.] forward 1: normalises; adds to d_param[2] (and [3]) rows_g * mean_g (rows_g *
//   unbiased variance_g; biased if it has one element) for each group whose first position,
//   ceil(g * global_batch / groups), is in this call's `position` (padding rows count: they carry
//   their position, or -1), so that over the ranks every group is added once. rows_g counts rows,
//   not elements.
//   backward 0: zeroes `sync` and puts there what dx needs of this rank's rows. [Reduced as above.]
//   backward 1: dx. One of the two adds this rank's rows to d_param[0], [1]. Without training only
//   the last forward phase runs, from the running statistics, and touches no sync. The layout of
//   `sync` within its shape [groups, k] is the device's own.
// * Loss forward adds (sum of weight*loss, sum of weight) to out[0], f64 [2]; backward writes
//   d_in[0] = loss_scale * weight * d loss / d prediction (not divided by the weight sum).
struct Call {
  const Node* node = nullptr;
  const Graph* graph = nullptr;
  Pass pass = Pass::forward;
  int phase = 0;
  bool training = true;
  i64 rows = 0, global_batch = 0;
  u64 seed = 0;
  std::vector<View> in, out, param, d_in, d_out, d_param;
  std::vector<View> lengths;     // i32 [rows], per input
  std::vector<bool> accumulate;  // per d_in
  View slots;                    // sparse embedding, backward
  View row_id;                   // i64 [rows]: key of dropout
  View position;                 // i32 [rows]: position in the global batch (batch norm groups)
  View weight;                   // real [rows] loss weights, or null data: all 1
  View sync;                     // f64, reduced over ranks between phases
  View saved, scratch;           // bytes (u8) as needs() asked; saved lives from forward to backward
  const Scalars* scalars = nullptr;    // device memory
  const Decision* decision = nullptr;  // device memory; losses: the gradient is times loss_scale
};
struct Needs {
  i64 saved = 0, scratch = 0;    // bytes
  int phases = 1;
  Shape sync;                    // f64 elements, {} if none
};

enum class OptimizerKind : u8 { sgd, adam, adamw };
struct OptimizerSegment {        // a range of the arenas, in elements
  i64 offset = 0, count = 0;
  double decay = 0;
  bool running = false;          // params = (1-m) params + m * grads / running_rows, m = `decay`
};
// One pass over the dense arenas, where decision->apply. g = decision->factor * grads. sgd: v = momentum v + g +
// decay p; p -= lr v (torch.optim.SGD). adam/adamw as torch.optim.Adam(W), step = decision->updates.
// Then, with an average, of all but running ranges: average = d average + (1 - d) params, with
// d = average_decay(ema, decision->updates).
struct DenseUpdate {
  OptimizerKind kind = OptimizerKind::adam;
  double momentum = 0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  std::vector<OptimizerSegment> segments;
  View params, grads, slot0, slot1;   // whole arenas, real [size]
  View average;                  // the same, or null data: none is kept
  double ema = 0;
  const Scalars* scalars = nullptr;
  const Decision* decision = nullptr;
};
// Row-sparse update of one table (torch.optim.SparseAdam, or plain sgd): rows[k] names the table
// row of segment row k, for k < *active.
struct RowUpdate {
  OptimizerKind kind = OptimizerKind::adam;
  double momentum = 0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  View param, grad, slot0, slot1;     // [rows, dim], [capacity, dim], ...
  View rows;                          // i32 [capacity]
  const i64* active = nullptr;         // device memory
  const Scalars* scalars = nullptr;
  const Decision* decision = nullptr;
};
// out (f64 [1]) = sum of squares of every range of `grads` (running segments excluded).
struct NormCall {
  std::vector<View> ranges;
  const i64* active_rows = nullptr;   // device memory; with one range [capacity, dim]: its rows
  View out;
};

// What a recording gives to the device each time, and the device memory that it takes.
struct Launches {
  i64 kernels = 0, copies = 0, zeros = 0, others = 0;
  i64 bytes = 0;
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void run() = 0;
  virtual Launches launches() const { return {}; }   // of what record() made
};

// Host memory that is sent to the device before a pass, and results that come back after it. On
// host devices `host` and `device` are the same memory.
struct Slot {
  char* host = nullptr;
  char* device = nullptr;
  char* results = nullptr;
  i64 bytes = 0;
  int index = 0;             // among the slots made together
  std::size_t handle = 0;    // the device's own
};

// A device runs what it is given in order, maybe later: run(), zero(), copy(), send() and close()
// return at once; copy_in(), copy_out() and wait() return when all that was given before is done.
class Device {
 public:
  virtual ~Device() = default;
  virtual std::string describe() const = 0;         // "cpu avx512, 2 threads, oneDNN 2.6.3"
  virtual DType real() const = 0;                   // of parameters, their gradients and slots
  virtual DType activation() const { return real(); }   // of values and their gradients
  // Zeroed, populated, 64-byte aligned memory that lives as long as the device.
  virtual void* allocate(i64 bytes) = 0;
  // Bytes between the host and this device's memory. Host devices: plain memory.
  virtual void copy_in(void* to, const void* host, i64 bytes);
  virtual void copy_out(void* host, const void* from, i64 bytes);
  virtual void copy(void* to, const void* from, i64 bytes);   // within the device
  virtual void zero(void* data, i64 bytes);

  // Slots to be used in turn, so that the host fills one while the device works with another; as
  // many as are worth having. They live as long as the device.
  virtual std::vector<Slot> make_slots(i64 bytes, i64 result_bytes);
  virtual void send(const Slot& slot);              // what is given from here on sees its bytes
  // What was given is the last to read the slot; `bytes` from there go to its results.
  virtual void close(const Slot& slot, const void* from, i64 bytes);
  // Until the slot was closed and its results are there; at once if it was never sent. Calls
  // `meanwhile` now and then, which may throw.
  virtual void wait(const Slot& slot, const std::function<void()>& meanwhile);
  // Where true, record() makes a kernel that replays what `work` gives to the device; else work is
  // to be called each time.
  virtual bool records() const { return false; }
  virtual std::unique_ptr<Kernel> record(const std::function<void()>& work);
  // Rows of a row-sparse segment that a pass treats where `active` of `capacity` are in use: few
  // different answers where recordings depend on them, else `active`.
  virtual i64 rows_treated(i64 active, i64 capacity) const;

  virtual Needs needs(const Call& call) const = 0;  // shapes are set, data pointers are not
  virtual std::unique_ptr<Kernel> compile(const Call& call) = 0;
  virtual std::unique_ptr<Kernel> compile(const DenseUpdate& update) = 0;
  virtual std::unique_ptr<Kernel> compile(const RowUpdate& update) = 0;
  virtual std::unique_ptr<Kernel> compile(const NormCall& call) = 0;
  virtual std::unique_ptr<Kernel> compile(const DecideCall& call) = 0;
};

std::unique_ptr<Device> make_reference_device();
std::unique_ptr<Device> make_null_device();
struct CpuOptions {
  int threads = 1;
  std::string isa = "auto";      // auto, baseline, avx2, avx512
  // Parameters are never written after the first kernel ran: what is made of them is kept. With one
  // thread, kernels of several plans may run at a time, each plan in one thread.
  bool frozen = false;
};
std::unique_ptr<Device> make_cpu_device(const CpuOptions& options);
std::string best_cpu_isa();

}  // namespace cohort
