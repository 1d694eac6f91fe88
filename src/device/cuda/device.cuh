// What every kernel file includes: the launch call and the two macros for shared memory. The tests
// compile the same files for the host, with macros of their own; nothing else here knows of it.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>

#include "base/types.h"

#ifndef STATIC_SHARED   // STATIC_SHARED(float, scratch, [32]);
#define STATIC_SHARED(T, name, ...) __shared__ T name __VA_ARGS__
// DYNAMIC_SHARED(float, rows): all of the launch's dynamic shared memory, 16-byte aligned.
#define DYNAMIC_SHARED(T, name)                                \
  extern __shared__ __align__(16) unsigned char name##_raw_[]; \
  T* name = reinterpret_cast<T*>(name##_raw_)
#endif

namespace cohort::cuda {

// Throws Error(Exit::lost) that names the call, the error and what to do.
void check(cudaError_t result, const char* call);

// The only launch in the product.
template <class... Parameters, class... Arguments>
void launch(cudaStream_t stream, void (*kernel)(Parameters...), dim3 grid, dim3 block,
            std::size_t shared_bytes, Arguments... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...),
        "cudaLaunchKernelEx");
}

// Blocks of a grid-stride kernel over n elements: enough to fill the device, no more.
inline unsigned blocks_for(i64 n, int threads) {
  constexpr i64 most = 4096;
  const i64 blocks = (n + threads - 1) / threads;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

// Activations are float, __nv_bfloat16 or __half; sums are taken in float.
__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float to_float(__half x) { return __half2float(x); }
template <class T>
__device__ inline T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) { return x; }
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) { return __float2bfloat16_rn(x); }
template <>
__device__ inline __half from_float<__half>(float x) { return __float2half_rn(x); }

}  // namespace cohort::cuda
