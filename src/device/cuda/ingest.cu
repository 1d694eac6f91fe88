// Raw fields to values.
#include "device/cuda/common.cuh"

namespace cohort::cuda {
namespace {

constexpr int field_width = 8;

// Walks the elements of rows one by one, and knows which are in use.
struct Cursor {
  RowCount rows;
  Steps steps;
  i64 row_elements, valid, row, column, used;

  __device__ Cursor(RowCount rows_, const Steps& steps_, i64 row_elements_, i64 at)
      : rows(rows_), steps(steps_), row_elements(row_elements_), valid(valid_of(rows_)) {
    row = quotient(at, row_elements);
    column = at - row * row_elements;
    count_used();
  }
  __device__ void count_used() {
    used = row < valid ? steps_in(steps, row) * quotient(row_elements, steps.capacity) : 0;
  }
  __device__ bool in_use() const { return column < used; }
  __device__ void next() {
    if (++column < row_elements) return;
    column = 0;
    ++row;
    count_used();
  }
};

template <class Real>
__device__ float normalised(Real x, double scale, const Real* moments, i64 channel) {
  x *= static_cast<Real>(scale);
  if (moments) x = (x - moments[2 * channel]) * moments[2 * channel + 1];
  return static_cast<float>(x);
}
__device__ const float* moments_of(const Field& field, float) { return field.narrow_moments; }
__device__ const double* moments_of(const Field& field, double) { return field.moments; }

template <class Raw, class T>
__global__ void __launch_bounds__(block_threads)
    real_kernel(RowCount rows, i64 row, Field field, T* out) {
  using Real = std::conditional_t<sizeof(Raw) == 1, float, double>;
  const Real* moments = moments_of(field, Real{});
  const i64 end = rows.rows * row;
  for (i64 at = first_index() * field_width; at < end; at += index_step() * field_width) {
    Cursor cursor(rows, field.steps, row, at);
    i64 channel = cursor.column - quotient(cursor.column, field.channels) * field.channels;
    const auto raw = load_pack<field_width>(static_cast<const Raw*>(field.data), at, end);
    Pack<T, field_width> x{};
    for (int k = 0; k < field_width && at + k < end; ++k) {
      if (cursor.in_use())
        x.lane[k] = from_float<T>(
            normalised(static_cast<Real>(raw.lane[k]), field.scale, moments, channel));
      cursor.next();
      if (++channel == field.channels) channel = 0;
    }
    store_pack(out, at, end, x);
  }
}

template <class Raw>
__global__ void __launch_bounds__(block_threads)
    id_kernel(RowCount rows, i64 row, const Raw* in, Steps steps, i32* out) {
  for (i64 at = first_index(); at < rows.rows * row; at += index_step()) {
    const Cursor cursor(rows, steps, row, at);
    out[at] = cursor.in_use() ? static_cast<i32>(in[at]) : -1;
  }
}

template <class Raw>
void ingest_ids(cudaStream_t s, const Values& v, const Field& f, void* out) {
  launch(s, id_kernel<Raw>, blocks_for(v.rows.rows * v.row, block_threads), block_threads, 0,
         v.rows, v.row, static_cast<const Raw*>(f.data), f.steps, static_cast<i32*>(out));
}

template <class Raw>
void ingest_real(cudaStream_t s, const Values& v, const Field& f, void* out) {
  const i64 packs = (v.rows.rows * v.row + field_width - 1) / field_width;
  with_type(v.type, [&](auto zero) {
    using T = decltype(zero);
    launch(s, real_kernel<Raw, T>, blocks_for(packs, block_threads), block_threads, 0, v.rows,
           v.row, f, static_cast<T*>(out));
  });
}

}  // namespace

void ingest(cudaStream_t s, const Values& v, const Field& field, void* out) {
  if (v.type == DType::i32 && field.type == DType::i64) return ingest_ids<i64>(s, v, field, out);
  if (v.type == DType::i32) return ingest_ids<i32>(s, v, field, out);
  switch (field.type) {
    case DType::f64: return ingest_real<double>(s, v, field, out);
    case DType::i32: return ingest_real<i32>(s, v, field, out);
    case DType::i64: return ingest_real<i64>(s, v, field, out);
    case DType::u8: return ingest_real<u8>(s, v, field, out);
    default: return ingest_real<float>(s, v, field, out);
  }
}

}  // namespace cohort::cuda
