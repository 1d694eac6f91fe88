// Around sums over ranks: casts to the type that gradients travel in and back, and a mark.
#include "device/cuda/device.cuh"
#include "device/cuda/kernels_reduce.h"

#ifndef NANOSECONDS   // a stand-in for the GPU has a clock of its own
namespace {
__device__ cohort::u64 global_timer() {
  cohort::u64 now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}
}  // namespace
#define NANOSECONDS() global_timer()
#endif

namespace cohort::cuda {
namespace {

constexpr int threads = 256;

template <class From, class To>
__global__ void cast(const From* from, To* to, i64 count) {
  const i64 stride = static_cast<i64>(gridDim.x) * blockDim.x;
  const i64 first = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (i64 i = first; i < count; i += stride) to[i] = from_float<To>(to_float(from[i]));
}

__global__ void start(WorkClock* clock, bool first) {
  if (first) clock->nanoseconds = 0;
  clock->since = NANOSECONDS();
}

__global__ void stop(WorkClock* clock) { clock->nanoseconds += NANOSECONDS() - clock->since; }

__global__ void set(i32* where, i32 value) { *where = value; }

}  // namespace

void to_bf16(cudaStream_t s, const float* from, void* to, i64 count) {
  launch(s, cast<float, __nv_bfloat16>, dim3(blocks_for(count, threads)), dim3(threads), 0, from,
         static_cast<__nv_bfloat16*>(to), count);
}

void from_bf16(cudaStream_t s, const void* from, float* to, i64 count) {
  launch(s, cast<__nv_bfloat16, float>, dim3(blocks_for(count, threads)), dim3(threads), 0,
         static_cast<const __nv_bfloat16*>(from), to, count);
}

void mark(cudaStream_t s, i32* where, i32 value) { launch(s, set, dim3(1), dim3(1), 0, where, value); }

void start_clock(cudaStream_t s, WorkClock* clock, bool first) {
  launch(s, start, dim3(1), dim3(1), 0, clock, first);
}

void stop_clock(cudaStream_t s, WorkClock* clock) { launch(s, stop, dim3(1), dim3(1), 0, clock); }

}  // namespace cohort::cuda
