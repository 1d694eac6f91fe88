// Owners of what the CUDA runtime hands out.
#pragma once
#include <utility>

#include "device/cuda/cuda_impl.h"

namespace cohort::cuda {

// A handle that is destroyed by `Destroy`; errors at the end of a process have nobody to go to.
template <class Handle, auto Destroy>
class Owned {
 public:
  Owned() = default;
  explicit Owned(Handle handle) : handle_(handle) {}
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Owned() {
    if (handle_) static_cast<void>(Destroy(handle_));
  }
  Handle get() const { return handle_; }

 private:
  Handle handle_ = nullptr;
};

using Stream = Owned<cudaStream_t, cudaStreamDestroy>;
using Event = Owned<cudaEvent_t, cudaEventDestroy>;
using CapturedGraph = Owned<cudaGraph_t, cudaGraphDestroy>;
using GraphExec = Owned<cudaGraphExec_t, cudaGraphExecDestroy>;
using DeviceMemory = Owned<void*, static_cast<cudaError_t (*)(void*)>(cudaFree)>;
using PinnedMemory = Owned<void*, static_cast<cudaError_t (*)(void*)>(cudaFreeHost)>;
using BlasHandle = Owned<cublasLtHandle_t, cublasLtDestroy>;
using DnnHandle = Owned<cudnnHandle_t, cudnnDestroy>;

inline Stream make_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return Stream(stream);
}

inline Event make_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  return Event(event);
}

inline PinnedMemory make_pinned(i64 bytes) {
  void* data = nullptr;
  check(cudaMallocHost(&data, static_cast<std::size_t>(bytes)), "cudaMallocHost");
  return PinnedMemory(data);
}

}  // namespace cohort::cuda
