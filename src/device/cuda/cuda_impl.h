// Private to the CUDA device. An op is compiled to a Kernel that gives its launches to
// Context::stream and returns: no allocation, no waiting, no reading back. The step may be recorded
// into a CUDA graph, so what changes from pass to pass is read from device memory (Scalars,
// Decision). Kernels stand in .cu files, behind launchers with plain parameters.
#pragma once
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <cudnn.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "device/cuda/kernels.h"
#include "device/device.h"
#include "device/function_kernel.h"

namespace cohort::cuda {

struct DnnPlan;

enum class Precision : u8 { f32, tf32, bf16, f16 };   // of matrix products and activations

struct Context {
  Device* device = nullptr;              // lends memory while ops are compiled
  cudaStream_t stream = nullptr;         // compute
  cublasLtHandle_t blas = nullptr;
  cudnnHandle_t dnn = nullptr;           // bound to `stream`
  Precision precision = Precision::f32;
  int processors = 1;                    // streaming multiprocessors
  // For libraries: one buffer for all calls, since they run one after another on `stream`.
  void* workspace = nullptr;
  i64 workspace_bytes = 0;
  std::map<std::string, std::shared_ptr<DnnPlan>> dnn_plans;   // of graphs built so far
};

// A table that kernels read, put into device memory while an op is compiled.
template <class T>
const T* upload(Context& x, const std::vector<T>& table) {
  const i64 bytes = static_cast<i64>(table.size() * sizeof(T));
  void* data = x.device->allocate(bytes);
  x.device->copy_in(data, table.data(), bytes);
  return static_cast<const T*>(data);
}

void check(cudaError_t result, const char* call);
void check(cublasStatus_t result, const char* call);
void check(cudnnStatus_t result, const char* call);

inline i64 last(const Shape& shape) { return shape.empty() ? 1 : shape.back(); }
inline i64 row_size(const View& view) {
  i64 n = 1;
  for (std::size_t d = 1; d < view.shape.size(); ++d) n *= view.shape[d];
  return n;
}

// Valid steps of the rows of input k.
inline Steps steps_of(const Call& c, std::size_t k) {
  Steps steps;
  const Shape& shape = c.in[k].shape;
  steps.capacity = static_cast<i32>(shape.size() > 1 ? shape[1] : 1);
  if (k >= c.lengths.size() || !c.lengths[k].data) return steps;
  steps.lengths = c.lengths[k].as<i32>();
  if (k >= c.node->in.size()) return steps;   // ingest
  steps.shrink = static_cast<i32>(c.graph->values[static_cast<std::size_t>(c.node->in[k])].shrink);
  return steps;
}

// For every op: what it needs, and the kernel of a pass.
#define COHORT_CUDA_OP(Op)                                                            \
  Needs needs(const Context& x, const Call& c, const Op& op);                         \
  std::unique_ptr<Kernel> forward(Context& x, const Call& c, const Op& op);           \
  std::unique_ptr<Kernel> backward(Context& x, const Call& c, const Op& op);
COHORT_CUDA_OP(Ingest)
COHORT_CUDA_OP(Dense)
COHORT_CUDA_OP(Embedding)
COHORT_CUDA_OP(Recurrent)
COHORT_CUDA_OP(Conv1d)
COHORT_CUDA_OP(Conv2d)
COHORT_CUDA_OP(MaxPool2d)
COHORT_CUDA_OP(AvgPool2d)
COHORT_CUDA_OP(GlobalAvgPool)
COHORT_CUDA_OP(MaxOverTime)
COHORT_CUDA_OP(BatchNorm)
COHORT_CUDA_OP(Dropout)
COHORT_CUDA_OP(Activate)
COHORT_CUDA_OP(Concat)
COHORT_CUDA_OP(Dot)
COHORT_CUDA_OP(Add)
COHORT_CUDA_OP(Flatten)
COHORT_CUDA_OP(Loss)
#undef COHORT_CUDA_OP

std::unique_ptr<Kernel> dense_update(Context& x, const DenseUpdate& update);
std::unique_ptr<Kernel> row_update(Context& x, const RowUpdate& update);
std::unique_ptr<Kernel> squared_norm(Context& x, const NormCall& call);
std::unique_ptr<Kernel> decision(Context& x, const DecideCall& call);

}  // namespace cohort::cuda
