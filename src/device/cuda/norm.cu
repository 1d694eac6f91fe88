// The squared norm of the gradients and what becomes of the step.
#include "device/cuda/common.cuh"
#include "device/cuda/kernels_train.h"

namespace cohort::cuda {
namespace {

__device__ double sum_of_range(const float* data, i64 first, i64 end, i64 step) {
  double sum = 0;
  for (i64 at = first; at < end; at += step) {
    const auto x = load_pack<4>(data, at, end);
    for (int k = 0; k < 4; ++k) sum += static_cast<double>(x.lane[k]) * x.lane[k];
  }
  return sum;
}

__device__ void add_up(double mine, const NormSums& to) {
  STATIC_SHARED(double, parts, [32]);
  const double block = block_sum(mine, parts);
  if (threadIdx.x == 0) to.parts[blockIdx.x] = block;
  if (!last_block(to.counter, gridDim.x)) return;
  double all = 0;
  for (u32 k = threadIdx.x; k < gridDim.x; k += blockDim.x) all += to.parts[k];
  all = block_sum(all, parts);
  if (threadIdx.x == 0) to.out[0] = all;
}

__global__ void __launch_bounds__(block_threads)
    ranges_kernel(NormInput in, NormSums to) {
  double sum = 0;
  for (i64 k = blockIdx.x; k < in.count; k += gridDim.x)
    sum += sum_of_range(in.ranges[k].data, threadIdx.x * 4, in.ranges[k].count, blockDim.x * 4);
  add_up(sum, to);
}

__global__ void __launch_bounds__(block_threads)
    rows_kernel(NormInput in, NormSums to) {
  const i64 end = *in.active * in.dim;
  add_up(sum_of_range(in.ranges->data, first_index() * 4, end, index_step() * 4), to);
}

__global__ void decide_kernel(DecideCall call) { decide(call); }

}  // namespace

// As many blocks on every device: ranks must come to the same sum.
void sum_squares(cudaStream_t s, const NormInput& in, const NormSums& sums) {
  const i64 wanted = in.active ? (in.capacity + 4095) / 4096 : in.count;
  const i64 blocks = wanted < 1 ? 1 : wanted < norm_parts ? wanted : norm_parts;
  launch(s, in.active ? rows_kernel : ranges_kernel, static_cast<unsigned>(blocks), block_threads,
         0, in, sums);
}

void decide_on_device(cudaStream_t s, const DecideCall& call) {
  launch(s, decide_kernel, 1, 1, 0, call);
}

}  // namespace cohort::cuda
