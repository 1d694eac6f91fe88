// reduce.cu: around sums over ranks.
#pragma once
#include <cuda_runtime.h>

#include "base/types.h"
#include "device/work_clock.h"

namespace cohort::cuda {

void to_bf16(cudaStream_t s, const float* from, void* to, i64 count);
void from_bf16(cudaStream_t s, const void* from, float* to, i64 count);
// *where = value, in pinned host memory: how far the stream has come.
void mark(cudaStream_t s, i32* where, i32 value);
// By kernels of one thread, not events: they are recorded into graphs like all else, and the sum
// comes back with the results of the step.
void start_clock(cudaStream_t s, WorkClock* clock, bool first);
void stop_clock(cudaStream_t s, WorkClock* clock);

}  // namespace cohort::cuda
