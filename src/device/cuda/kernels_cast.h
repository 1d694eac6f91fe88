// cast.cu.
#pragma once
#include <cuda_runtime.h>

#include "base/types.h"

namespace cohort::cuda {

void to_bf16(cudaStream_t s, const float* from, void* to, i64 count);
void from_bf16(cudaStream_t s, const void* from, float* to, i64 count);

}  // namespace cohort::cuda
