// Between all states of a recurrent layer, valid or not, and its results.
#include "device/cuda/cell.cuh"

namespace cohort::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(block_threads) pick_kernel(Recurrence r, const T* states) {
  const i32 times = r.every_step ? r.steps.capacity : 1;
  const i64 count = r.rows.rows * times * r.units, valid_rows = valid_of(r.rows);
  for (i64 i = first_index(); i < count; i += index_step()) {
    const i64 vector = quotient(i, r.units), row = quotient(vector, times);
    const int unit = static_cast<int>(i - vector * r.units);
    const int valid = steps_of_row(r, row, valid_rows);
    const i32 t = r.every_step ? static_cast<i32>(vector - row * times) : valid - 1;
    T state = from_float<T>(0);
    if (t >= 0 && t < valid) state = states[state_at(r, row, t) + unit];
    static_cast<T*>(r.out)[i] = state;
  }
}

template <class T>
__global__ void __launch_bounds__(block_threads) spread_kernel(Recurrence r, T* d_states) {
  const i64 count = r.rows.rows * r.steps.capacity * r.units, valid_rows = valid_of(r.rows);
  const T* d_out = static_cast<const T*>(r.d_out);
  for (i64 i = first_index(); i < count; i += index_step()) {
    const i64 vector = quotient(i, r.units), row = quotient(vector, r.steps.capacity);
    const int unit = static_cast<int>(i - vector * r.units);
    const i32 t = static_cast<i32>(vector - row * r.steps.capacity);
    const int valid = steps_of_row(r, row, valid_rows);
    T d = from_float<T>(0);
    if (t < valid && r.every_step) d = d_out[i];
    if (t + 1 == valid && !r.every_step) d = d_out[row * r.units + unit];
    d_states[i] = d;
  }
}

}  // namespace

void pick_states(cudaStream_t s, const Recurrence& r, const void* states) {
  const i64 count = r.rows.rows * r.units * (r.every_step ? r.steps.capacity : 1);
  with_type(r.type, [&](auto zero) {
    using T = decltype(zero);
    launch(s, pick_kernel<T>, blocks_for(count, block_threads), block_threads, 0, r,
           static_cast<const T*>(states));
  });
}
void spread_gradients(cudaStream_t s, const Recurrence& r, void* d_states) {
  const i64 count = r.rows.rows * r.units * r.steps.capacity;
  with_type(r.type, [&](auto zero) {
    using T = decltype(zero);
    launch(s, spread_kernel<T>, blocks_for(count, block_threads), block_threads, 0, r,
           static_cast<T*>(d_states));
  });
}

}  // namespace cohort::cuda
