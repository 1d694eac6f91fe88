// Losses. Sums go over threads, then warps, then blocks in a fixed order, in double.
#include "device/cuda/common.cuh"
#include "device/cuda/kernels_train.h"

namespace cohort::cuda {
namespace {

__device__ float number_at(const void* data, DType type, i64 at) {
  if (type == DType::bf16) return to_float(static_cast<const __nv_bfloat16*>(data)[at]);
  if (type == DType::f16) return to_float(static_cast<const __half*>(data)[at]);
  return static_cast<const float*>(data)[at];
}

// Where element `at` of the prediction stands.
struct Place {
  i64 row, index;     // of the place: in its row, among all
  i64 first;          // element of the place
  bool judged;
};

struct Judge {
  const LossInput& in;
  i64 valid, places;   // rows, places of a row

  __device__ explicit Judge(const LossInput& in_)
      : in(in_), valid(valid_of(in_.rows)), places(in_.row / in_.place) {}
  __device__ Place place(i64 index) const {
    Place p{quotient(index, places), index, index * in.place, false};
    if (p.row >= valid) return p;
    const i32 a = steps_in(in.steps, p.row), b = steps_in(in.target_steps, p.row);
    p.judged = index - p.row * places < (a < b ? a : b) * in.places_per_step;
    return p;
  }
  __device__ double weight(i64 row) const { return in.weight ? in.weight[row] : 1; }
};

struct Sums {
  double loss = 0, weight = 0;
};

// Adds the sums of all threads of the grid to the result.
__device__ void add_up(Sums mine, const LossSums& to) {
  STATIC_SHARED(double, parts, [32]);
  const double loss = block_sum(mine.loss, parts), weight = block_sum(mine.weight, parts);
  if (threadIdx.x == 0) {
    to.parts[2 * blockIdx.x] = loss;
    to.parts[2 * blockIdx.x + 1] = weight;
  }
  if (!last_block(to.counter, gridDim.x)) return;
  Sums all;
  for (u32 k = threadIdx.x; k < gridDim.x; k += blockDim.x) {
    all.loss += to.parts[2 * k];
    all.weight += to.parts[2 * k + 1];
  }
  all.loss = block_sum(all.loss, parts);
  all.weight = block_sum(all.weight, parts);
  if (threadIdx.x > 0) return;
  to.out[0] += all.loss;
  to.out[1] += all.weight;
}

// The largest of `x` and the sum of exp(x - largest), of two disjoint sets of logits.
struct Exponentials {
  float largest, sum;

  __device__ void join(float other, float other_sum) {
    if (other == -INFINITY && other_sum == 0) return;
    const float top = fmaxf(largest, other);
    sum = sum * expf(largest - top) + other_sum * expf(other - top);
    largest = top;
  }
};

// One warp per place.
template <class T>
__global__ void __launch_bounds__(block_threads)
    entropy_kernel(LossInput in, i64 count, float* normalisers, LossSums to) {
  const Judge judge(in);
  const T* logits = static_cast<const T*>(in.prediction);
  const u32 lane = threadIdx.x % 32;
  Sums sums;
  for (i64 i = first_index() / 32; i < count; i += index_step() / 32) {
    const Place p = judge.place(i);
    const i32 target = p.judged ? static_cast<const i32*>(in.target)[i] : -1;
    if (target < 0) continue;
    Exponentials e{-INFINITY, 0};
    for (i64 k = lane; k < in.place; k += 32) {
      const float x = to_float(logits[p.first + k]);
      e.join(x, x == -INFINITY ? 0 : 1);
    }
    for (int lanes = 16; lanes > 0; lanes /= 2) {
      const float other = __shfl_xor_sync(all_lanes, e.largest, lanes);
      const float other_sum = __shfl_xor_sync(all_lanes, e.sum, lanes);
      e.join(other, other_sum);
    }
    if (lane > 0) continue;
    const float total = logf(e.sum);
    normalisers[2 * i] = e.largest;
    normalisers[2 * i + 1] = total;
    const double weight = judge.weight(p.row);
    sums.loss += weight * (e.largest - to_float(logits[p.first + target]) + total);
    sums.weight += weight;
  }
  add_up(sums, to);
}

template <class T>
__device__ void put(T* to, bool accumulate, float x) {
  *to = from_float<T>(accumulate ? to_float(*to) + x : x);
}

template <class T>
__global__ void __launch_bounds__(block_threads)
    entropy_back_kernel(LossInput in, i64 count, const float* normalisers,
                        const Decision* decision, T* d_in, bool accumulate) {
  const Judge judge(in);
  const T* logits = static_cast<const T*>(in.prediction);
  for (i64 i = first_index() / 32; i < count; i += index_step() / 32) {
    const Place p = judge.place(i);
    const i32 target = p.judged ? static_cast<const i32*>(in.target)[i] : -1;
    float weight = 0, largest = 0, total = 0;
    if (target >= 0) {
      weight = static_cast<float>(judge.weight(p.row) * decision->loss_scale);
      largest = normalisers[2 * i];
      total = normalisers[2 * i + 1];
    }
    for (i64 k = threadIdx.x % 32; k < in.place; k += 32) {
      float d = 0;
      if (target >= 0)
        d = weight * (expf(to_float(logits[p.first + k]) - largest - total) - (k == target));
      put(d_in + p.first + k, accumulate, d);
    }
  }
}

__device__ float value_of(LossKind kind, float x, float y) {
  if (kind == LossKind::mse) return (x - y) * (x - y);
  return fmaxf(x, 0) - x * y + log1pf(expf(-fabsf(x)));
}
__device__ float slope_of(LossKind kind, float x, float y) {
  if (kind == LossKind::mse) return 2 * (x - y);
  return 1 / (1 + expf(-x)) - y;
}

// One thread per element.
template <class T>
__global__ void __launch_bounds__(block_threads)
    number_kernel(LossKind kind, LossInput in, LossSums to) {
  const Judge judge(in);
  const T* prediction = static_cast<const T*>(in.prediction);
  Sums sums;
  for (i64 at = first_index(); at < judge.valid * in.row; at += index_step()) {
    const Place p = judge.place(quotient(at, in.place));
    if (!p.judged) continue;
    const double weight = judge.weight(p.row);
    const float y = number_at(in.target, in.target_type, at);
    sums.loss += weight / static_cast<double>(in.place) *
                 value_of(kind, to_float(prediction[at]), y);
    if (at == p.first) sums.weight += weight;
  }
  add_up(sums, to);
}

template <class T>
__global__ void __launch_bounds__(block_threads)
    number_back_kernel(LossKind kind, LossInput in, const Decision* decision, T* d_in,
                       bool accumulate) {
  const Judge judge(in);
  const T* prediction = static_cast<const T*>(in.prediction);
  const double share = decision->loss_scale / static_cast<double>(in.place);
  for (i64 at = first_index(); at < in.rows.rows * in.row; at += index_step()) {
    const Place p = judge.place(quotient(at, in.place));
    float d = 0;
    if (p.judged) {
      const float y = number_at(in.target, in.target_type, at);
      d = static_cast<float>(judge.weight(p.row) * share) *
          slope_of(kind, to_float(prediction[at]), y);
    }
    put(d_in + at, accumulate, d);
  }
}

// At most as many blocks as there are parts.
unsigned blocks_of_sum(i64 threads) {
  const unsigned blocks = blocks_for(threads, block_threads);
  constexpr unsigned most = loss_parts / 2;
  return blocks < most ? blocks : most;
}

}  // namespace

i64 loss_places(const LossInput& in) { return in.rows.rows * (in.row / in.place); }

void loss_forward(cudaStream_t s, LossKind kind, const LossInput& in, float* normalisers,
                  const LossSums& sums) {
  with_type(in.type, [&](auto zero) {
    using T = decltype(zero);
    const i64 places = loss_places(in);
    if (kind == LossKind::cross_entropy)
      return launch(s, entropy_kernel<T>, blocks_of_sum(places * 32), block_threads, 0, in, places,
                    normalisers, sums);
    launch(s, number_kernel<T>, blocks_of_sum(in.rows.rows * in.row), block_threads, 0, kind, in,
           sums);
  });
}

void loss_backward(cudaStream_t s, LossKind kind, const LossInput& in, const float* normalisers,
                   const Decision* decision, const Gradient& d_in) {
  with_type(in.type, [&](auto zero) {
    using T = decltype(zero);
    const i64 places = loss_places(in);
    T* to = static_cast<T*>(d_in.data);
    if (kind == LossKind::cross_entropy)
      return launch(s, entropy_back_kernel<T>, blocks_for(places * 32, block_threads),
                    block_threads, 0, in, places, normalisers, decision, to, d_in.accumulate);
    launch(s, number_back_kernel<T>, blocks_for(in.rows.rows * in.row, block_threads),
           block_threads, 0, kind, in, decision, to, d_in.accumulate);
  });
}

}  // namespace cohort::cuda
