#include "test_kernels.h"

#include <cuda_bf16.h>

namespace hg::test {
namespace {
template <class... P, class... A>
cudaError_t start(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared,
                  cudaStream_t stream, A... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...);
}

unsigned blocks(int n) { return static_cast<unsigned>((n + 255) / 256); }

__global__ void fill_kernel(float* p, float value, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) p[i] = value;
}

__global__ void add_kernel(float* y, const float* x, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] += x[i];
}

__global__ void __launch_bounds__(256) sum_kernel(float* y, const float* x, bool with_barrier) {
  STATIC_SHARED(float, partial, [8]);
  float value = x[threadIdx.x];
  for (int lanes = 16; lanes; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  if (with_barrier) __syncthreads();
  if (threadIdx.x != 0) return;
  float total = 0;
  for (int i = 0; i < 8; ++i) total += partial[i];
  *y = total;
}

__global__ void rotate_kernel(float* p, bool with_barrier) {
  const unsigned i = threadIdx.x;
  const float value = p[(i + 1) % blockDim.x];
  if (with_barrier) __syncthreads();
  p[i] = value;
}

__global__ void collectives_kernel(int* out) {
  const int i = static_cast<int>(threadIdx.x);
  const int n = static_cast<int>(blockDim.x);
  out[i] = __syncthreads_count(i % 3 == 0);
  out[n + i] = __syncthreads_or(i == 5) * 2 + __syncthreads_and(i != 5);
  out[2 * n + i] = __shfl_down_sync(0xffffffffu, i, 4);
  out[3 * n + i] = __shfl_up_sync(0xffffffffu, i, 1, 8);
  out[4 * n + i] = static_cast<int>(__ballot_sync(0xffffffffu, i % 32 < 3));
  out[5 * n + i] = __any_sync(0xffffffffu, i == 40) + 2 * __all_sync(0xffffffffu, i < 32);
  const unsigned half = i % 32 < 16 ? 0x0000ffffu : 0xffff0000u;
  out[6 * n + i] = __shfl_sync(half, i, 3, 16);
}

__global__ void atomics_kernel(float* sum_f, double* sum_d, int* most, unsigned* ticket) {
  atomicAdd(sum_f, 0.5f);
  atomicAdd(sum_d, 0.25);
  atomicMax(most, static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x));
  atomicInc(ticket, 9u);
}

__global__ void bf16_kernel(float* y, const float* x, int n) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= n) return;
  const __nv_bfloat16 value = __float2bfloat16(__ldg(x + i));
  y[i] = __bfloat162float(value * value + __float2bfloat16(1.0f));
}

__global__ void positions_kernel(unsigned* counter, unsigned* out) {
  out[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(counter, 1u);
}

__global__ void barrier_of_some_kernel() {
  const bool in_mask = threadIdx.x >= 7;
  if (in_mask && threadIdx.x != 31) __syncwarp(0xffffff80u);
  if (!in_mask || threadIdx.x == 31) __syncthreads();
}

__global__ void barrier_after_return_kernel() {
  if (threadIdx.x < 7) return;
  __syncthreads();
}

__global__ void foreign_lane_kernel() {
  if (threadIdx.x < 4) __shfl_sync(0x0000000fu, 1, 9);
}

__global__ void shared_overrun_kernel() {
  DYNAMIC_SHARED(float, values);
  values[threadIdx.x + 1] = 1.0f;
}

__global__ void reads_unset_shared_kernel(float* out) {
  STATIC_SHARED(float, values, [32]);
  out[threadIdx.x] = values[threadIdx.x];
}

__device__ int descend(volatile int* at, int depth) {
  volatile char room[1024];
  room[depth % 1024] = static_cast<char>(*at);
  return depth == 0 ? room[0] : descend(at, depth - 1) + room[depth % 1024];
}

__global__ void deep_recursion_kernel(int* out) { *out = descend(out, 10000); }

__global__ void with_shared_kernel() {
  DYNAMIC_SHARED(float, values);
  if (threadIdx.x == 0) values[0] = 1.0f;
}
}  // namespace

cudaError_t fill(float* p, float value, int n, cudaStream_t stream) {
  return start(fill_kernel, blocks(n), 256, 0, stream, p, value, n);
}
cudaError_t add(float* y, const float* x, int n, cudaStream_t stream) {
  return start(add_kernel, blocks(n), 256, 0, stream, y, x, n);
}
cudaError_t sum(float* y, const float* x, bool barrier, cudaStream_t stream) {
  return start(sum_kernel, 1, 256, 0, stream, y, x, barrier);
}
cudaError_t rotate(float* p, bool barrier, cudaStream_t stream) {
  return start(rotate_kernel, 1, 64, 0, stream, p, barrier);
}
cudaError_t collectives(int* out, cudaStream_t stream) {
  return start(collectives_kernel, 1, 64, 0, stream, out);
}
cudaError_t atomics(float* sum_f, double* sum_d, int* most, unsigned* ticket,
                    cudaStream_t stream) {
  return start(atomics_kernel, 4, 32, 0, stream, sum_f, sum_d, most, ticket);
}
cudaError_t bf16_square(float* y, const float* x, int n, cudaStream_t stream) {
  return start(bf16_kernel, 1, 64, 0, stream, y, x, n);
}
cudaError_t positions(unsigned* counter, unsigned* out, cudaStream_t stream) {
  return start(positions_kernel, 4, 32, 0, stream, counter, out);
}
cudaError_t barrier_of_some(cudaStream_t stream) {
  return start(barrier_of_some_kernel, 1, 32, 0, stream);
}
cudaError_t barrier_after_return(cudaStream_t stream) {
  return start(barrier_after_return_kernel, 1, 32, 0, stream);
}
cudaError_t foreign_lane(cudaStream_t stream) {
  return start(foreign_lane_kernel, 1, 32, 0, stream);
}
cudaError_t shared_overrun(cudaStream_t stream) {
  return start(shared_overrun_kernel, 1, 32, 32 * sizeof(float), stream);
}
cudaError_t reads_unset_shared(float* out, cudaStream_t stream) {
  return start(reads_unset_shared_kernel, 1, 32, 0, stream, out);
}
cudaError_t deep_recursion(int* out, cudaStream_t stream) {
  return start(deep_recursion_kernel, 1, 1, 0, stream, out);
}
cudaError_t with_shared(dim3 grid, dim3 block, std::size_t bytes, cudaStream_t stream) {
  return start(with_shared_kernel, grid, block, bytes, stream);
}
const void* with_shared_function() { return reinterpret_cast<const void*>(with_shared_kernel); }
}  // namespace hg::test
