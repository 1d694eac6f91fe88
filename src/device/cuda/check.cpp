#include "device/cuda/cuda_impl.h"

namespace cohort::cuda {

void check(cudaError_t result, const char* call) {
  if (result == cudaSuccess) return;
  fail(Exit::lost, "{}: {} ({}): see the kernel log and the driver, or run compute-sanitizer", call,
       cudaGetErrorString(result), cudaGetErrorName(result));
}

void check(cublasStatus_t result, const char* call) {
  if (result == CUBLAS_STATUS_SUCCESS) return;
  fail(Exit::lost, "{}: cuBLASLt status {}", call, static_cast<int>(result));
}

void check(cudnnStatus_t result, const char* call) {
  if (result == CUDNN_STATUS_SUCCESS) return;
  fail(Exit::lost, "{}: cuDNN: {}", call, cudnnGetErrorString(result));
}

}  // namespace cohort::cuda
