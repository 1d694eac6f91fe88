// What launchers of kernels take: plain types, so that .cu files compile fast. Pointers are to
// device memory unless said otherwise. Rows from `valid` on are padding: results there are zero.
#pragma once
#include <cuda_runtime.h>

#include "model/op.h"

namespace cohort::cuda {

struct RowCount {
  const i64* valid = nullptr;   // Scalars::valid
  i64 rows = 0;                 // capacity
};

// Valid steps of rows: `lengths` null: `capacity` steps; else min(capacity, shrink == 0 ? length :
// max(1, length - shrink)).
struct Steps {
  const i32* lengths = nullptr;
  i32 capacity = 1;
  i32 shrink = 0;
};

// Where a gradient goes. data null: not wanted.
struct Gradient {
  void* data = nullptr;
  bool accumulate = false;
};

// A part of every vector of a concatenation.
struct ConcatPart {
  const void* in = nullptr;
  Gradient d_in;
  i64 offset = 0, width = 0;
};

// Values of `type` [rows, row].
struct Values {
  DType type = DType::f32;
  RowCount rows;
  i64 row = 1;
};

// pointwise.cu. out = activation(sum of in[k]); zero at steps that are not valid.
void sum_forward(cudaStream_t s, const Values& v, const Steps& steps, const void* const* in,
                 int inputs, void* out, Activation activation);
// d_in[k] = d_out * slope(out); `out` is read only where there is an activation.
void sum_backward(cudaStream_t s, const Values& v, const Gradient* d_in, int inputs,
                  const void* d_out, const void* out, Activation activation);

struct DropoutMask {
  u64 seed = 0, layer = 0;      // dropout_key(seed, epoch, layer name): the name's key
  const i64* epoch = nullptr;
  const i64* row_id = nullptr;
  u32 threshold = 0;
  float factor = 1;
};
void dropout(cudaStream_t s, const Values& v, const void* in, const Gradient& out,
             const DropoutMask& mask);

// Vectors of v.row / vectors elements; `multiple` divides every width and offset.
struct Concatenation {
  const ConcatPart* parts = nullptr;
  int count = 0;
  i64 vectors = 1;              // in a row
  i64 multiple = 1;
};
void concat_forward(cudaStream_t s, const Values& v, const Concatenation& c, void* out);
void concat_backward(cudaStream_t s, const Values& v, const Concatenation& c, const void* d_out);

void dot_forward(cudaStream_t s, const Values& v, const void* a, const void* b, void* out);
void dot_backward(cudaStream_t s, const Values& v, const void* a, const void* b, const void* d_out,
                  const Gradient& d_a, const Gradient& d_b);

// ingest.cu. moments [channels, 2]: mean and inverse deviation, or null. Bytes are exact enough in
// float; other fields may be large and are read in double.
struct Field {
  DType type = DType::f32;
  const void* data = nullptr;
  Steps steps;
  double scale = 1;
  const double* moments = nullptr;
  const float* narrow_moments = nullptr;   // the same
  i64 channels = 1;
};
void ingest(cudaStream_t s, const Values& v, const Field& field, void* out);

// embedding.cu
struct Ids {
  const i32* ids = nullptr;     // [rows, per_row], < 0: none
  RowCount rows;
  i64 per_row = 1;
};
void embedding_forward(cudaStream_t s, const Ids& ids, const float* table, i64 dim, DType type,
                       void* out);
// d_table[rows of `slots`] += the gradients of their ids. `slots` null: the ids are the rows.
struct TableGradient {
  const i32* slots = nullptr;
  float* data = nullptr;        // [rows, dim]
  i64 rows = 0, dim = 1;
};
i64 embedding_scratch(const Ids& ids, const TableGradient& to);
void embedding_backward(cudaStream_t s, const Ids& ids, DType type, const void* d_out,
                        const TableGradient& to, void* scratch, i64 bytes);

// sort.cu. Stable, by the lowest `bits` of the keys.
struct SortArrays {
  const i32* keys_in = nullptr;
  i32* keys_out = nullptr;
  const i32* values_in = nullptr;
  i32* values_out = nullptr;
  i64 count = 0;
  int bits = 32;
};
i64 sort_workspace(const SortArrays& arrays);
void sort_pairs(cudaStream_t s, const SortArrays& arrays, void* workspace, i64 bytes);

}  // namespace cohort::cuda
