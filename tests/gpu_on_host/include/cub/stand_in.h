// What the stand-ins of the device-wide CUB calls share. Each has the signature and the two-call
// protocol of the header that it takes the place of: without a workspace it tells the bytes needed,
// with one it is an operation of the stream, and the workspace is full of NaN afterwards. Arrays
// are plain pointers (other iterators do not compile); what lies outside live device memory, is not
// aligned or overlaps an output is refused.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <utility>

#include "../../runtime.h"

namespace hg {

struct CubWorkspace {
  void* data;
  std::size_t bytes;
};

template <class T>
bool cub_array(const T* p, std::size_t n) {
  if (reinterpret_cast<std::uintptr_t>(p) % alignof(T)) return false;
  return n == 0 || (p != nullptr && device_range(p, n * sizeof(T)));
}

template <class A, class B>
bool cub_apart(const A* a, std::size_t na, const B* b, std::size_t nb) {
  const auto x = reinterpret_cast<std::uintptr_t>(a), y = reinterpret_cast<std::uintptr_t>(b);
  return x + na * sizeof(A) <= y || y + nb * sizeof(B) <= x;
}

inline std::size_t cub_bytes(std::size_t items) { return 1023 + 8 * items; }

inline bool cub_workspace(const CubWorkspace& workspace, std::size_t items) {
  return workspace.bytes >= cub_bytes(items) && device_range(workspace.data, workspace.bytes);
}

template <class Work>
cudaError_t cub_enqueue(cudaStream_t stream, const char* what, const CubWorkspace& workspace,
                        Work work) {
  return enqueue(stream, what, [=] {
    std::memset(workspace.data, 0xff, workspace.bytes);
    work();
  });
}

}  // namespace hg
