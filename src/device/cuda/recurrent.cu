// A step of a recurrent layer, between the matrix products of its states.
#include "device/cuda/cell.cuh"

namespace cohort::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(block_threads) step_kernel(Recurrence r, i32 t) {
  const i64 count = r.rows.rows * r.units, valid_rows = valid_of(r.rows);
  for (i64 i = first_index(); i < count; i += index_step()) {
    const i64 row = quotient(i, r.units);
    const int unit = static_cast<int>(i - row * r.units);
    const int valid = steps_of_row(r, row, valid_rows);
    if (t >= valid) {
      put_state(r, row, t, unit, valid, from_float<T>(0));
      continue;
    }
    float* gates = r.gates + gates_at(r, row, t) + unit;
    const i64 state = state_at(r, row, t) + unit;
    float sum[most_sums] = {};
    for (int g = 0; g < most_sums; ++g)
      if (g < sums_of(r.cell)) sum[g] = gates[g * r.units];
    if (r.cell == Cell::gru) sum[3] = (t > 0 ? sum[3] : 0) + r.inner_bias[unit];
    const float cell_before = r.cell == Cell::lstm && t > 0 ? r.cells[state - r.units] : 0;
    const float state_before = t > 0 ? to_float(static_cast<const T*>(r.before)[state]) : 0;
    const Unit u = step_of(r.cell, sum, cell_before, state_before);
    for (int g = 0; g < most_sums; ++g)
      if (g < sums_of(r.cell)) gates[g * r.units] = u.gate[g];
    if (r.cell == Cell::lstm) r.cells[state] = u.cell;
    put_state(r, row, t, unit, valid, from_float<T>(u.state));
  }
}

template <class T>
__global__ void __launch_bounds__(block_threads) step_back_kernel(Recurrence r, i32 t) {
  const i64 count = r.rows.rows * r.units, valid_rows = valid_of(r.rows);
  for (i64 i = first_index(); i < count; i += index_step()) {
    const i64 row = quotient(i, r.units);
    const int unit = static_cast<int>(i - row * r.units);
    const int valid = steps_of_row(r, row, valid_rows);
    const bool first = t + 1 == r.steps.capacity;   // on the way back
    const BackInput in = back_input<T>(r, row, t, unit, valid);
    UnitGradient d{};
    if (t < valid)
      d = step_back_of(r.cell, in.unit, in.cell_before, in.state_before,
                       in.d_out + (first ? 0 : r.d_state[i]), first ? 0 : r.d_cell[i]);
    r.d_state[i] = d.state;
    r.d_cell[i] = d.cell;
    T* d_gates = static_cast<T*>(r.d_gates) + gates_at(r, row, t) + unit;
    for (int g = 0; g < most_sums; ++g)
      if (g < sums_of(r.cell)) d_gates[g * r.units] = from_float<T>(d.sum[g]);
  }
}

}  // namespace

void recurrent_step(cudaStream_t s, const Recurrence& r, i32 t) {
  with_type(r.type, [&](auto zero) {
    launch(s, step_kernel<decltype(zero)>, blocks_for(r.rows.rows * r.units, block_threads),
           block_threads, 0, r, t);
  });
}
void recurrent_step_back(cudaStream_t s, const Recurrence& r, i32 t) {
  with_type(r.type, [&](auto zero) {
    launch(s, step_back_kernel<decltype(zero)>, blocks_for(r.rows.rows * r.units, block_threads),
           block_threads, 0, r, t);
  });
}

}  // namespace cohort::cuda
