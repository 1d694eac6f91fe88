// Private to the CPU device: fp32 on plain arrays. An op shards rows (or output columns) over the
// threads; every reduction runs in shard order, so results depend on the thread count alone.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"
#include "device/cpu/kernels/table.h"
#include "device/device.h"

namespace cohort::cpu {

// Weights as the packed product takes them, made when first asked for. Thread-safe.
class Packs {
 public:
  const float* of(const float* weight, i64 n, i64 k);

 private:
  std::mutex mutex_;
  std::map<const float*, std::vector<float>> packs_;
};

struct Context {
  ThreadPool& pool;
  const KernelTable& kernels;
  i64 threads;
  Packs* packs = nullptr;   // null: parameters change
};

inline i64 padded(i64 n) { return (n + 15) / 16 * 16; }
inline float* real(const View& view) { return view.as<float>(); }
inline i64 last(const Shape& shape) { return shape.empty() ? 1 : shape.back(); }
inline i64 row_size(const View& view) {
  i64 n = 1;
  for (std::size_t d = 1; d < view.shape.size(); ++d) n *= view.shape[d];
  return n;
}
inline i64 valid_rows(const Call& c) { return std::min(c.rows, c.scalars->valid); }
inline bool is_ragged(const Call& c, std::size_t k) {
  return k < c.lengths.size() && c.lengths[k].data;
}
// Valid steps of row r in input k; the first dimension where it is not ragged.
inline i64 steps_in(const Call& c, std::size_t k, i64 r) {
  const Shape& shape = c.in[k].shape;
  const i64 capacity = shape.size() > 1 ? shape[1] : 1;
  if (!is_ragged(c, k)) return capacity;
  const Value& value = c.graph->values[static_cast<std::size_t>(c.node->in[k])];
  return std::min<i64>(valid_steps(value, c.lengths[k].as<i32>()[r]), capacity);
}

// Runs job(shard, first, last) over [0, n) split in `threads` fixed parts. No allocation.
template <class Job>
void sharded(Context& x, i64 n, Job job) {
  auto part = [&](int shard) {
    const i64 first = n * shard / x.threads, end = n * (shard + 1) / x.threads;
    if (first < end) job(shard, first, end);
  };
  if (x.threads == 1) return part(0);
  if (n > 1) return x.pool.run(std::ref(part));
  for (int shard = 0; shard < x.threads; ++shard) part(shard);   // one has it: nobody is woken
}

// Row-major C[m,n] = beta C + op(A) op(B); *_t: the operand is stored transposed. Fails loudly.
struct Gemm {
  bool a_t = false, b_t = false;
  i64 m = 0, n = 0, k = 0;
  const float* a = nullptr;
  i64 lda = 0;
  const float* b = nullptr;
  i64 ldb = 0;
  float beta = 0;
  float* c = nullptr;
  i64 ldc = 0;
};
void gemm(const Gemm& g);
// The transpose of `weight` [n, k], [k, padded(n)], in panels: see PackedGemm.
void pack_transposed(const float* weight, i64 n, i64 k, float* to);

void activate(const Context& x, Activation kind, float* data, i64 n);
// d = dy * slope(y); d may be dy.
void activate_back(const Context& x, Activation kind, float* d, const float* dy, const float* y,
                   i64 n);
// Zeroes d_in[k] unless it is accumulated into; false where it is not wanted.
bool begin_gradient(const Call& c, std::size_t k);
// Zeroes the rows of `view` from `valid` on.
void zero_padding(const View& view, i64 valid);
// d_param[k] += every shard's part: part s starts at first + s * stride.
void reduce_parts(const Context& x, float* to, i64 n, const float* first, i64 stride);

#define COHORT_CPU_OP(Op)                                   \
  void forward(Context& x, const Call& c, const Op& op);    \
  void backward(Context& x, const Call& c, const Op& op);
COHORT_CPU_OP(Ingest)
COHORT_CPU_OP(Dense)
COHORT_CPU_OP(Embedding)
COHORT_CPU_OP(Recurrent)
COHORT_CPU_OP(Conv1d)
COHORT_CPU_OP(Conv2d)
COHORT_CPU_OP(MaxPool2d)
COHORT_CPU_OP(AvgPool2d)
COHORT_CPU_OP(GlobalAvgPool)
COHORT_CPU_OP(MaxOverTime)
COHORT_CPU_OP(BatchNorm)
COHORT_CPU_OP(Dropout)
COHORT_CPU_OP(Activate)
COHORT_CPU_OP(Concat)
COHORT_CPU_OP(Dot)
COHORT_CPU_OP(Add)
COHORT_CPU_OP(Flatten)
COHORT_CPU_OP(Loss)
#undef COHORT_CPU_OP

template <class Op>
Needs needs(const Call&, const Op&, i64) { return {}; }
Needs needs(const Call& c, const Dense& op, i64 threads);
Needs needs(const Call& c, const Recurrent& op, i64 threads);
Needs needs(const Call& c, const Conv1d& op, i64 threads);
Needs needs(const Call& c, const Conv2d& op, i64 threads);
Needs needs(const Call& c, const BatchNorm& op, i64 threads);
Needs needs(const Call& c, const Loss& op, i64 threads);

void run_update(Context& x, const DenseUpdate& update);
void run_update(Context& x, const RowUpdate& update);
void run_norm(Context& x, const NormCall& call);

}  // namespace cohort::cpu
