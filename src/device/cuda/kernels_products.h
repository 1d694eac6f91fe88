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
// where there is an activation; dz or d_bias null: not wanted. A bias takes parts and zeroed
// counters as asked.
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

// A stretch of a parameter or its gradient, and its copy in the type that a library reads.
struct ParameterCopy {
  float* values = nullptr;
  void* copy = nullptr;
  i64 count = 0;
};
constexpr int most_copies = 12;
void copy_parameters(cudaStream_t s, DType type, const ParameterCopy* parts, int count);
// The other way: values += copy.
void add_gradients(cudaStream_t s, DType type, const ParameterCopy* parts, int count);

// to += from
void add_values(cudaStream_t s, DType to_type, void* to, DType from_type, const void* from,
                i64 count);

// conv_text.cu. The way back of a convolution over steps [rows, steps, features] with its max over
// time: one window of the input meets each (row, filter).
struct Windowed {
  DType type = DType::f32;
  i64 rows = 1, steps = 1, features = 1, filters = 1, width = 1;
  const void* dz = nullptr;     // [rows, filters], zero where there is no window
  const i32* first = nullptr;   // the window's first step; < 0: none
};
// d_weight [filters, width, features] +=
void windowed_weight_gradient(cudaStream_t s, const Windowed& v, const void* in, float* d_weight);
void windowed_input_gradient(cudaStream_t s, const Windowed& v, const void* weight,
                             const Gradient& d_in);

// A recurrent layer. gates [rows, steps, sums, units]: the cell's sums with the input before a step,
// what backward reads after it; sums: biases_of(cell). before [rows, steps, units]:
// the state before a step, zero where the step is not valid.
struct Recurrence {
  DType type = DType::f32;      // of before, out, their gradients, d_gates
  RowCount rows;
  Steps steps;
  Cell cell = Cell::tanh;
  i32 units = 1;
  bool every_step = false;
  float* gates = nullptr;
  float* cells = nullptr;       // LSTM: [rows, steps, units]
  void* before = nullptr;
  void* out = nullptr;
  const float* bias = nullptr;          // [gates, units], of the sums with the input
  const float* inner_bias = nullptr;    // GRU: b_hn
  const void* d_out = nullptr;
  void* d_gates = nullptr;      // as gates; zero where the step is not valid
};
// recurrent.cu. A layer's results from all its states [rows, steps, units]; and the way back.
void pick_states(cudaStream_t s, const Recurrence& r, const void* states);
void spread_gradients(cudaStream_t s, const Recurrence& r, void* d_states);

// recurrent_small.cu. All steps in one launch, W_hh [gates * units, units] held in registers.
bool is_small(const Recurrence& r);
void recurrent_small(cudaStream_t s, const Recurrence& r, const float* w_hh, int processors);
void recurrent_small_back(cudaStream_t s, const Recurrence& r, const float* w_hh, int processors);

}  // namespace cohort::cuda
