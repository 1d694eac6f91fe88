// Small recurrent layers, where a launch a step would be all latency: a block treats a few rows
// through all steps. Each thread holds the weights of one gate of one unit in registers; states and
// sums meet in shared memory.
#include "device/cuda/cell.cuh"

namespace cohort::cuda {
namespace {

constexpr int most_units = 64;
constexpr int most_threads = 4 * most_units;

// `x` is 16-byte aligned and zero from the units on.
template <int most>
__device__ float product(const float (&w)[most], const float4* x) {
  float4 sum = {0, 0, 0, 0};
  for (int k = 0; k < most / 4; ++k) {
    const float4 v = x[k];
    sum.x += w[4 * k] * v.x;
    sum.y += w[4 * k + 1] * v.y;
    sum.z += w[4 * k + 2] * v.z;
    sum.w += w[4 * k + 3] * v.w;
  }
  return (sum.x + sum.y) + (sum.z + sum.w);
}

// The row and unit that a thread serves between the products.
struct Own {
  int index, unit;              // of the block's rows
  i64 row;
  bool active;
  int valid = 0;                // steps
};
template <int group>
__device__ Own own_of(const Recurrence& r, i64 valid_rows) {
  Own own;
  const int thread = static_cast<int>(threadIdx.x);
  own.index = thread / r.units;
  own.unit = thread - own.index * r.units;
  own.row = static_cast<i64>(blockIdx.x) * group + own.index;
  own.active = own.index < group && own.row < r.rows.rows;
  if (own.active) own.valid = steps_of_row(r, own.row, valid_rows);
  return own;
}

template <int group>
__device__ int longest_of(const Recurrence& r, i64 valid_rows) {
  int longest = 0;
  for (int i = 0; i < group; ++i) {
    const i64 row = static_cast<i64>(blockIdx.x) * group + i;
    if (row < r.rows.rows) longest = max(longest, steps_of_row(r, row, valid_rows));
  }
  return longest;
}

// Sums of the block's rows with the input, for the thread's gate at step t.
template <int group>
__device__ void load_sums(const Recurrence& r, i32 t, int gate, float bias, float (&to)[group]) {
  for (int i = 0; i < group; ++i) {
    const i64 row = static_cast<i64>(blockIdx.x) * group + i;
    to[i] = row < r.rows.rows ? r.gates[gates_at(r, row, t) + gate] + bias : 0;
  }
}

template <class T, int most, int group>
__global__ void __launch_bounds__(most_threads) small_kernel(Recurrence r, const float* w_hh) {
  STATIC_SHARED(float4, states, [group][most / 4]);
  STATIC_SHARED(float, sums, [group][most_sums * most]);
  const int thread = static_cast<int>(threadIdx.x), gates = weights_of(r.cell) * r.units;
  const i64 valid_rows = valid_of(r.rows);
  const Own own = own_of<group>(r, valid_rows);
  const int longest = longest_of<group>(r, valid_rows);
  const bool inner = r.cell == Cell::gru && thread >= 2 * r.units;   // W_hn h stays apart
  float w[most], next[group] = {};
  for (int k = 0; k < most; ++k)
    w[k] = thread < gates && k < r.units ? w_hh[thread * r.units + k] : 0;
  const float bias = thread < gates ? r.bias[thread] : 0;
  const float inner_bias = inner && thread < gates ? r.inner_bias[thread - 2 * r.units] : 0;
  float* all = reinterpret_cast<float*>(states);
  for (int k = thread; k < group * most; k += static_cast<int>(blockDim.x)) all[k] = 0;
  if (thread < gates && longest > 0) load_sums<group>(r, 0, thread, bias, next);
  float cell = 0, state = 0;
  __syncthreads();
  for (i32 t = 0; t < r.steps.capacity; ++t) {
    for (int i = 0; i < group && thread < gates && t < longest; ++i) {
      const float sum = product<most>(w, states[i]);
      sums[i][thread] = inner ? next[i] : next[i] + sum;
      if (inner) sums[i][thread + r.units] = sum + inner_bias;
    }
    if (thread < gates && t + 1 < longest) load_sums<group>(r, t + 1, thread, bias, next);
    __syncthreads();
    if (own.active && t >= own.valid)
      put_state(r, own.row, t, own.unit, own.valid, from_float<T>(0));
    if (own.active && t < own.valid) {
      float sum[most_sums] = {};
      for (int g = 0; g < most_sums; ++g)
        if (g < sums_of(r.cell)) sum[g] = sums[own.index][g * r.units + own.unit];
      const Unit u = step_of(r.cell, sum, cell, state);
      float* to = r.gates + gates_at(r, own.row, t) + own.unit;
      for (int g = 0; g < most_sums; ++g)
        if (g < sums_of(r.cell)) to[g * r.units] = u.gate[g];
      if (r.cell == Cell::lstm) r.cells[state_at(r, own.row, t) + own.unit] = u.cell;
      const T rounded = from_float<T>(u.state);
      put_state(r, own.row, t, own.unit, own.valid, rounded);
      cell = u.cell;
      state = to_float(rounded);
      all[own.index * most + own.unit] = state;
    }
    __syncthreads();
  }
}

template <class T>
__device__ void put_gradient(const Recurrence& r, const Own& own, i32 t, const UnitGradient& d) {
  T* to = static_cast<T*>(r.d_gates) + gates_at(r, own.row, t) + own.unit;
  for (int g = 0; g < most_sums; ++g)
    if (g < sums_of(r.cell)) to[g * r.units] = from_float<T>(d.sum[g]);
}

template <class T, int most, int group>
__global__ void __launch_bounds__(most_threads) small_back_kernel(Recurrence r, const float* w_hh) {
  STATIC_SHARED(float4, d_sums, [group][most_sums][most / 4]);
  STATIC_SHARED(float, parts, [group][most_sums * most]);
  const int thread = static_cast<int>(threadIdx.x), gates = weights_of(r.cell) * r.units;
  const i64 valid_rows = valid_of(r.rows);
  const Own own = own_of<group>(r, valid_rows);
  const int longest = longest_of<group>(r, valid_rows);
  const int gate = thread / r.units;
  const int sum = r.cell == Cell::gru && gate == 2 ? 3 : gate;   // what W_hh's rows belong to
  float w[most];
  for (int k = 0; k < most; ++k)
    w[k] = thread < gates && k < r.units
               ? w_hh[(gate * r.units + k) * r.units + thread - gate * r.units]
               : 0;
  float* all = reinterpret_cast<float*>(d_sums);
  for (int k = thread; k < group * most_sums * most; k += static_cast<int>(blockDim.x)) all[k] = 0;
  for (int i = 0; i < group && thread < gates; ++i) parts[i][thread] = 0;
  for (i32 t = longest; own.active && t < r.steps.capacity; ++t)
    put_gradient<T>(r, own, t, UnitGradient{});
  BackInput next{};
  if (own.active && longest > 0)
    next = back_input<T>(r, own.row, longest - 1, own.unit, own.valid);
  UnitGradient d{};
  __syncthreads();
  for (i32 t = longest - 1; t >= 0; --t) {
    if (own.active) {
      float d_state = d.state + next.d_out;
      for (int g = 0; g < most_sums; ++g)
        if (g < weights_of(r.cell)) d_state += parts[own.index][g * r.units + own.unit];
      const float d_cell = d.cell;
      d = UnitGradient{};
      if (t < own.valid)
        d = step_back_of(r.cell, next.unit, next.cell_before, next.state_before, d_state, d_cell);
      put_gradient<T>(r, own, t, d);
      for (int g = 0; g < most_sums; ++g)
        if (g < sums_of(r.cell))
          all[(own.index * most_sums + g) * most + own.unit] = d.sum[g];
      if (t > 0) next = back_input<T>(r, own.row, t - 1, own.unit, own.valid);
    }
    __syncthreads();
    for (int i = 0; i < group && thread < gates; ++i)
      parts[i][thread] = product<most>(w, d_sums[i][sum]);
    __syncthreads();
  }
}

// run(most units, rows of a block): few rows where there are few blocks to fill the device.
template <class Run>
void with_sizes(const Recurrence& r, int processors, Run run) {
  const auto with_group = [&](auto most) {
    if (r.rows.rows <= 2 * processors) return run(most, std::integral_constant<int, 1>{});
    if (r.rows.rows <= 4 * processors) return run(most, std::integral_constant<int, 2>{});
    run(most, std::integral_constant<int, 4>{});
  };
  if (r.units <= most_units / 2) return with_group(std::integral_constant<int, most_units / 2>{});
  with_group(std::integral_constant<int, most_units>{});
}

// A thread for every gate, and for every unit of the block's rows.
unsigned threads_of(const Recurrence& r, int group) {
  const i64 gates = gates_of(r.cell);
  const i64 threads = (gates > group ? gates : group) * r.units;
  return static_cast<unsigned>((threads + 31) / 32 * 32);
}
unsigned blocks_of(const Recurrence& r, int group) {
  return static_cast<unsigned>((r.rows.rows + group - 1) / group);
}

}  // namespace

bool is_small(const Recurrence& r) { return r.units <= most_units; }

void recurrent_small(cudaStream_t s, const Recurrence& r, const float* w_hh, int processors) {
  with_type(r.type, [&](auto zero) {
    with_sizes(r, processors, [&](auto most, auto group) {
      launch(s, small_kernel<decltype(zero), most(), group()>, blocks_of(r, group),
             threads_of(r, group), 0, r, w_hh);
    });
  });
}

void recurrent_small_back(cudaStream_t s, const Recurrence& r, const float* w_hh, int processors) {
  with_type(r.type, [&](auto zero) {
    with_sizes(r, processors, [&](auto most, auto group) {
      launch(s, small_back_kernel<decltype(zero), most(), group()>, blocks_of(r, group),
             threads_of(r, group), 0, r, w_hh);
    });
  });
}

}  // namespace cohort::cuda
