// reduce.cu: around sums over ranks.
#pragma once
#include <cuda_runtime.h>

#include "base/types.h"

namespace cohort::cuda {

void to_bf16(cudaStream_t s, const float* from, void* to, i64 count);
void from_bf16(cudaStream_t s, const void* from, float* to, i64 count);
// *where = value, in pinned host memory: how far the stream has come.
void mark(cudaStream_t s, i32* where, i32 value);

}  // namespace cohort::cuda
