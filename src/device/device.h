// A device compiles operations bound to memory into kernels. Four implementations: cpu (oneDNN and
// own kernels, fp32), reference (float64, plain loops), null (runs nothing), later cuda.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "model/graph.h"

namespace cohort {

// Written by the host between runs, read by kernels; kernels must not cache it.
struct Scalars {
  i64 step = 0, epoch = 0;
  u64 seed = 0;
  i64 valid = 0;              // rows in use; rows >= valid are padding and must never be summed
  i64 global_batch = 0;
  bool training = true;
  double learning_rate = 0;
  double inverse_weight = 0;  // 1 / global weight sum
  double clip = 1;            // factor of the global-norm clip
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
//   d_in[0] = weight * d loss / d prediction (not divided by the weight sum).
struct Call {
  const Node* node = nullptr;
  const Graph* graph = nullptr;
  Pass pass = Pass::forward;
  int phase = 0;
  i64 rows = 0;
  std::vector<View> in, out, param, d_in, d_out, d_param;
  std::vector<View> lengths;     // i32 [rows], per input
  std::vector<bool> accumulate;  // per d_in
  View slots;                    // sparse embedding, backward
  View row_id;                   // i64 [rows]: key of dropout
  View position;                 // i32 [rows]: position in the global batch (batch norm groups)
  View weight;                   // real [rows] loss weights, or null data: all 1
  View sync;                     // f64, reduced over ranks between phases
  View saved, scratch;           // bytes (u8) as needs() asked; saved lives from forward to backward
  const Scalars* scalars = nullptr;
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
  bool running = false;          // params = (1-m) params + m * grads / *running_rows, m = `decay`
};
// One pass over the dense arenas. g = clip * inverse_weight * grads. sgd: v = momentum v + g +
// decay p; p -= lr v (torch.optim.SGD). adam/adamw as torch.optim.Adam(W), step counted from 1.
struct DenseUpdate {
  OptimizerKind kind = OptimizerKind::adam;
  double momentum = 0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  std::vector<OptimizerSegment> segments;
  View params, grads, slot0, slot1;   // whole arenas, real [size]
  const double* running_rows = nullptr;   // valid rows of the step's global batch
  const Scalars* scalars = nullptr;
  const i64* update_count = nullptr;  // updates applied so far (Adam's step - 1)
};
// Row-sparse update of one table (torch.optim.SparseAdam, or plain sgd): rows[k] names the table
// row of segment row k, for k < *active.
struct RowUpdate {
  OptimizerKind kind = OptimizerKind::adam;
  double momentum = 0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  View param, grad, slot0, slot1;     // [rows, dim], [capacity, dim], ...
  View rows;                          // i32 [capacity]
  const i64* active = nullptr;
  const Scalars* scalars = nullptr;
  const i64* update_count = nullptr;
};
// out (f64 [1]) = sum of squares of every range of `grads` (running segments excluded).
struct NormCall {
  std::vector<View> ranges;
  const i64* active_rows = nullptr;   // with one range [capacity, dim]: only the first rows
  View out;
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void run() = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string describe() const = 0;         // "cpu avx512, 2 threads, oneDNN 2.6.3"
  virtual DType real() const = 0;                   // f32 or f64
  // Zeroed, populated, 64-byte aligned memory that lives as long as the device.
  virtual void* allocate(i64 bytes) = 0;
  // Bytes between the host and this device's memory. Host devices: plain memory.
  virtual void copy_in(void* to, const void* host, i64 bytes);
  virtual void copy_out(void* host, const void* from, i64 bytes);
  virtual void zero(void* data, i64 bytes);
  virtual Needs needs(const Call& call) const = 0;  // shapes are set, data pointers are not
  virtual std::unique_ptr<Kernel> compile(const Call& call) = 0;
  virtual std::unique_ptr<Kernel> compile(const DenseUpdate& update) = 0;
  virtual std::unique_ptr<Kernel> compile(const RowUpdate& update) = 0;
  virtual std::unique_ptr<Kernel> compile(const NormCall& call) = 0;
};

std::unique_ptr<Device> make_reference_device();
std::unique_ptr<Device> make_null_device();
struct CpuOptions {
  int threads = 1;
  std::string isa = "auto";      // auto, baseline, avx2, avx512
};
std::unique_ptr<Device> make_cpu_device(const CpuOptions& options);
std::string best_cpu_isa();

}  // namespace cohort
