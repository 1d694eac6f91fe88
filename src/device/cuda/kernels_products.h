// Launchers around the libraries' matrix products and convolutions, and of recurrent cells.
#pragma once
#include "device/cuda/kernels.h"

namespace cohort::cuda {

// Rows of `per_row` vectors of `width` values. Those of padding rows, and of invalid steps of
// sequences (`per_step` vectors each), are zero.
struct Vectors {
  DType type = DType::f32;
  RowCount rows;
  i64 per_row = 1, width = 1;
  Steps steps;
  i64 per_step = 1;
  COHORT_EVERYWHERE i64 count() const { return rows.rows * per_row; }
};

// vectors.cu. data = activation(data + bias) where valid, else 0. bias null: none.
void finish_vectors(cudaStream_t s, const Vectors& v, void* data, const float* bias,
                    Activation activation);
// dz = d_out * slope(out) where valid, else 0; d_bias [width] += the sums of dz. `out` is read only
// where there is an activation; d_bias null: not wanted, else parts and zeroed counters as asked.
struct VectorGradient {
  const void* d_out = nullptr;
  const void* out = nullptr;
  Activation activation = Activation::none;
  void* dz = nullptr;
  float* d_bias = nullptr;
  float* parts = nullptr;
  u32* counters = nullptr;
};
i64 gradient_parts(const Vectors& v);      // values
i64 gradient_counters(const Vectors& v);
void gradient_of_vectors(cudaStream_t s, const Vectors& v, const VectorGradient& g);

// Copies of parameters in the type that products read.
struct CastPart {
  const float* from = nullptr;
  void* to = nullptr;
  i64 count = 0;
};
void cast_parameters(cudaStream_t s, DType type, const CastPart* parts, int count);

// to += from
void add_values(cudaStream_t s, DType to_type, void* to, DType from_type, const void* from,
                i64 count);

}  // namespace cohort::cuda
