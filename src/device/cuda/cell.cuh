// One unit of a recurrent cell, for one step: forward and back.
#pragma once
#include "device/cuda/common.cuh"
#include "device/cuda/kernels_products.h"

namespace cohort::cuda {

constexpr int most_sums = 4;

// What backward needs (of the GRU r, z, n and the inner sum W_hn h + b_hn), and the results.
struct Unit {
  float gate[most_sums];
  float cell, state;
};

__device__ inline Unit step_of(Cell kind, const float (&sum)[most_sums], float cell_before,
                               float state_before) {
  Unit u{};
  switch (kind) {
    case Cell::tanh:
      u.state = u.gate[0] = tanhf(sum[0]);
      break;
    case Cell::lstm:
      for (int g = 0; g < 4; ++g)
        u.gate[g] = activate(g == 2 ? Activation::tanh : Activation::sigmoid, sum[g]);
      u.cell = u.gate[1] * cell_before + u.gate[0] * u.gate[2];
      u.state = u.gate[3] * tanhf(u.cell);
      break;
    case Cell::gru:
      u.gate[0] = activate(Activation::sigmoid, sum[0]);
      u.gate[1] = activate(Activation::sigmoid, sum[1]);
      u.gate[2] = tanhf(sum[2] + u.gate[0] * sum[3]);
      u.gate[3] = sum[3];
      u.state = (1 - u.gate[1]) * u.gate[2] + u.gate[1] * state_before;
      break;
  }
  return u;
}

// Of the sums; of the state and cell before, as far as it does not pass through the sums.
struct UnitGradient {
  float sum[most_sums];
  float state, cell;
};

__device__ inline UnitGradient step_back_of(Cell kind, const Unit& u, float cell_before,
                                            float state_before, float d_state, float d_cell) {
  UnitGradient d{};
  switch (kind) {
    case Cell::tanh:
      d.sum[0] = d_state * (1 - u.gate[0] * u.gate[0]);
      break;
    case Cell::lstm: {
      const float i = u.gate[0], f = u.gate[1], g = u.gate[2], o = u.gate[3];
      const float tanh_cell = tanhf(u.cell);
      const float dc = d_cell + d_state * o * (1 - tanh_cell * tanh_cell);
      d.sum[0] = dc * g * i * (1 - i);
      d.sum[1] = dc * cell_before * f * (1 - f);
      d.sum[2] = dc * i * (1 - g * g);
      d.sum[3] = d_state * tanh_cell * o * (1 - o);
      d.cell = dc * f;
      break;
    }
    case Cell::gru: {
      const float reset = u.gate[0], update = u.gate[1], candidate = u.gate[2];
      const float dn = d_state * (1 - update) * (1 - candidate * candidate);
      d.sum[0] = dn * u.gate[3] * reset * (1 - reset);
      d.sum[1] = d_state * (state_before - candidate) * update * (1 - update);
      d.sum[2] = dn;
      d.sum[3] = dn * reset;
      d.state = d_state * update;
      break;
    }
  }
  return d;
}

// gates_of() and biases_of() on the device.
__device__ inline int weights_of(Cell kind) {
  return kind == Cell::lstm ? 4 : kind == Cell::gru ? 3 : 1;
}
__device__ inline int sums_of(Cell kind) { return kind == Cell::tanh ? 1 : most_sums; }
__device__ inline int steps_of_row(const Recurrence& r, i64 row, i64 valid) {
  return row < valid ? steps_in(r.steps, row) : 0;
}

// Where step t of a row, unit 0, lies in gates.
__device__ inline i64 gates_at(const Recurrence& r, i64 row, i32 t) {
  return (row * r.steps.capacity + t) * sums_of(r.cell) * r.units;
}
__device__ inline i64 state_at(const Recurrence& r, i64 row, i32 t) {
  return (row * r.steps.capacity + t) * r.units;
}

// Stores the result of step t where it is wanted; `valid`: steps of the row.
template <class T>
__device__ void put_state(const Recurrence& r, i64 row, i32 t, int unit, int valid, T state) {
  T* before = static_cast<T*>(r.before);
  T* out = static_cast<T*>(r.out);
  if (t == 0) before[state_at(r, row, 0) + unit] = from_float<T>(0);
  if (t + 1 < r.steps.capacity)
    before[state_at(r, row, t + 1) + unit] = t + 1 < valid ? state : from_float<T>(0);
  if (r.every_step)
    out[state_at(r, row, t) + unit] = state;
  else if (t + 1 == valid || (t == 0 && valid == 0))
    out[row * r.units + unit] = state;
}

// What a unit's backward step reads.
struct BackInput {
  Unit unit;
  float cell_before, state_before, d_out;
};
template <class T>
__device__ BackInput back_input(const Recurrence& r, i64 row, i32 t, int unit, int valid) {
  BackInput in{};
  if (t >= valid) return in;
  const i64 gates = gates_at(r, row, t), state = state_at(r, row, t) + unit;
  for (int g = 0; g < most_sums; ++g)
    if (g < sums_of(r.cell)) in.unit.gate[g] = r.gates[gates + g * r.units + unit];
  if (r.cell == Cell::lstm) in.unit.cell = r.cells[state];
  if (r.cell == Cell::lstm && t > 0) in.cell_before = r.cells[state - r.units];
  in.state_before = to_float(static_cast<const T*>(r.before)[state]);
  const i64 from = r.every_step ? state : row * r.units + unit;
  if (r.every_step || t + 1 == valid) in.d_out = to_float(static_cast<const T*>(r.d_out)[from]);
  return in;
}

}  // namespace cohort::cuda
