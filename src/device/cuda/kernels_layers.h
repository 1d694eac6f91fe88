// Launchers of pools and batch norm.
#pragma once
#include "device/cuda/kernels.h"

namespace cohort::cuda {

// pool.cu. Windows over images [rows, height, width, channels].
struct Windows {
  DType type = DType::f32;
  RowCount rows;
  i32 height = 1, width = 1;
  i64 channels = 1;
  i32 out_height = 1, out_width = 1;
  i32 size_y = 1, size_x = 1, stride = 1, padding = 0;
};
// choice, one number per output: the place of the first maximum in its window, row by row. u8 where
// that suffices, else u16.
i64 choice_bytes(const Windows& w);
void max_pool_forward(cudaStream_t s, const Windows& w, const void* in, void* out, void* choice);
void max_pool_backward(cudaStream_t s, const Windows& w, const void* d_out, const void* choice,
                       const Gradient& d_in);
// Mean of whole windows.
void average_pool_forward(cudaStream_t s, const Windows& w, const void* in, void* out);
void average_pool_backward(cudaStream_t s, const Windows& w, const void* d_out,
                           const Gradient& d_in);

// [rows, steps, features] -> [rows, features]. first: the step of the first maximum, -1: no step.
struct Sequences {
  DType type = DType::f32;
  RowCount rows;
  Steps steps;
  i64 features = 1;
};
void max_over_time_forward(cudaStream_t s, const Sequences& q, const void* in, void* out,
                           i32* first);
void max_over_time_backward(cudaStream_t s, const Sequences& q, const void* d_out,
                            const i32* first, const Gradient& d_in);

// batch_norm.cu. Vectors of channels in rows; a row belongs to the group of its position.
struct NormShape {
  DType type = DType::f32;
  RowCount rows;
  Steps steps;
  i64 vectors_per_step = 1;
  i64 channels = 1;
  i64 groups = 1, global_batch = 1;
  const i32* position = nullptr;
  double epsilon = 1e-5;
  Activation activation = Activation::none;
  i64 splits = 1;                // blocks that share the vectors of a group
};
// sync, f64 [groups, 2 + 2 * channels]: rows, vectors, then two sums of each channel.
// saved, f32 [groups, 2, channels]: mean, inverse deviation.
// counters: zeros between launches, norm_counters of them.
struct NormMemory {
  const float* weight = nullptr;
  const float* bias = nullptr;
  const float* running = nullptr;          // mean, or null: the statistics of the groups
  const float* running_variance = nullptr;
  double* sync = nullptr;
  float* saved = nullptr;
  double* parts = nullptr;                 // norm_parts_bytes
  u32* counters = nullptr;
};
struct NormGradients {                     // of parameters; null: none
  float* weight = nullptr;
  float* bias = nullptr;
  float* running = nullptr;                // what is added up for the running statistics
  float* running_variance = nullptr;
};
i64 norm_splits(const NormShape& n, i64 processors);
i64 norm_parts_bytes(const NormShape& n);
i64 norm_counters(const NormShape& n);
void norm_moments(cudaStream_t s, const NormShape& n, const NormMemory& m, const void* in);
void norm_forward(cudaStream_t s, const NormShape& n, const NormMemory& m, const void* in,
                  void* out, const NormGradients& to);
// `out` is read only where there is an activation.
struct NormValues {
  const void* in = nullptr;
  const void* out = nullptr;
  const void* d_out = nullptr;
};
void norm_gradient_sums(cudaStream_t s, const NormShape& n, const NormMemory& m,
                        const NormValues& v, const NormGradients& to);
void norm_backward(cudaStream_t s, const NormShape& n, const NormMemory& m, const NormValues& v,
                   const Gradient& d_in);

}  // namespace cohort::cuda
