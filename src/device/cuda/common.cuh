// What several kernel files share on the device: vectors of elements, activations, reductions.
#pragma once
#include <type_traits>

#include "device/cuda/device.cuh"
#include "device/cuda/kernels.h"

namespace cohort::cuda {

constexpr unsigned all_lanes = 0xffffffffu;
constexpr int block_threads = 256;

// The elements that one thread moves at a time: 16 bytes of the larger arrays.
template <class T, int width>
struct alignas(sizeof(T) * width < 16 ? sizeof(T) * width : 16) Pack {
  T lane[width];
};

// run(T{}) with the element type of activations.
template <class Run>
void with_type(DType type, Run run) {
  if (type == DType::bf16) return run(__nv_bfloat16{});
  if (type == DType::f16) return run(__half{});
  return run(float{});
}

// run(T{}, width) with the widest packs that divide `multiple`: 16 bytes, or single elements.
template <class Run>
void with_packs(DType type, i64 multiple, Run run) {
  with_type(type, [&](auto zero) {
    constexpr int widest = 16 / static_cast<int>(sizeof(zero));
    if (multiple % widest == 0) return run(zero, std::integral_constant<int, widest>{});
    run(zero, std::integral_constant<int, 1>{});
  });
}

// The 64-bit division is many times slower, and sizes are mostly small.
__device__ inline i64 quotient(i64 a, i64 b) {
  if (((a | b) >> 32) == 0) return static_cast<u32>(a) / static_cast<u32>(b);
  return a / b;
}

__device__ inline i64 first_index() {
  return static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline i64 index_step() { return static_cast<i64>(gridDim.x) * blockDim.x; }

// Elements [at, at + width) of an array of `end`: those from `end` on are left out.
template <int width, class T>
__device__ Pack<T, width> load_pack(const T* data, i64 at, i64 end) {
  if (at + width <= end) return *reinterpret_cast<const Pack<T, width>*>(data + at);
  Pack<T, width> pack{};
  for (int k = 0; k < width && at + k < end; ++k) pack.lane[k] = data[at + k];
  return pack;
}
template <int width, class T>
__device__ void store_pack(T* data, i64 at, i64 end, const Pack<T, width>& pack) {
  if (at + width <= end) {
    *reinterpret_cast<Pack<T, width>*>(data + at) = pack;
    return;
  }
  for (int k = 0; k < width && at + k < end; ++k) data[at + k] = pack.lane[k];
}

// Adds to, or replaces, the elements at `at`.
template <int width, class T>
__device__ void put_pack(T* to, bool accumulate, i64 at, i64 end, float (&x)[width]) {
  Pack<T, width> pack;
  if (accumulate) {
    pack = load_pack<width>(to, at, end);
    for (int k = 0; k < width; ++k) x[k] += to_float(pack.lane[k]);
  }
  for (int k = 0; k < width; ++k) pack.lane[k] = from_float<T>(x[k]);
  store_pack(to, at, end, pack);
}

__device__ inline float activate(Activation kind, float x) {
  switch (kind) {
    case Activation::relu: return x < 0 ? 0 : x;
    case Activation::tanh: return tanhf(x);
    case Activation::sigmoid: return 1 / (1 + expf(-x));
    case Activation::none: break;
  }
  return x;
}
// d activation / dx, from the result y.
__device__ inline float slope(Activation kind, float y) {
  switch (kind) {
    case Activation::relu: return y > 0 ? 1.0f : 0.0f;
    case Activation::tanh: return 1 - y * y;
    case Activation::sigmoid: return y * (1 - y);
    case Activation::none: break;
  }
  return 1;
}

__device__ inline i64 valid_of(RowCount rows) {
  return *rows.valid < rows.rows ? *rows.valid : rows.rows;
}
__device__ inline i32 steps_in(const Steps& steps, i64 row) {
  if (!steps.lengths) return steps.capacity;
  i32 n = steps.lengths[row];
  if (steps.shrink) n = n - steps.shrink > 1 ? n - steps.shrink : 1;
  return n < steps.capacity ? n : steps.capacity;
}

template <class T>
__device__ T warp_sum(T x) {
  for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(all_lanes, x, lanes);
  return x;
}

// The sum over a block of whole warps, given to every thread. `parts` holds 32.
template <class T>
__device__ T block_sum(T x, T* parts) {
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  x = warp_sum(x);
  __syncthreads();   // `parts` may still be read from the last time
  if (lane == 0) parts[warp] = x;
  __syncthreads();
  return warp_sum(lane < blockDim.x / 32 ? parts[lane] : T{});
}

// True in the block that is the last of `blocks` to come here: it sees what the others wrote
// before. All threads of a block call it. The counter is 0 before and after.
__device__ inline bool last_block(u32* counter, u32 blocks) {
  STATIC_SHARED(u32, before, [1]);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0 && threadIdx.y == 0) before[0] = atomicInc(counter, blocks - 1);
  __syncthreads();
  const bool last = before[0] == blocks - 1;
  __threadfence();
  return last;
}

}  // namespace cohort::cuda
