// Stands in for the CUB header of the same path.
#pragma once
#include "../stand_in.h"

namespace cub {

struct DeviceScan {
  template <class In, class Out, class Count>
  static cudaError_t ExclusiveSum(void* workspace, std::size_t& bytes, const In* in, Out* out,
                                  Count items, cudaStream_t stream = nullptr) {
    return sum(workspace, bytes, in, out, items, stream, false);
  }

  template <class In, class Out, class Count>
  static cudaError_t InclusiveSum(void* workspace, std::size_t& bytes, const In* in, Out* out,
                                  Count items, cudaStream_t stream = nullptr) {
    return sum(workspace, bytes, in, out, items, stream, true);
  }

 private:
  template <class In, class Out, class Count>
  static cudaError_t sum(void* workspace, std::size_t& bytes, const In* in, Out* out, Count items,
                         cudaStream_t stream, bool inclusive) {
    if (items < 0) return cudaErrorInvalidValue;
    const auto n = std::size_t(items);
    if (!workspace) {
      bytes = hg::cub_bytes(n);
      return cudaSuccess;
    }
    const hg::CubWorkspace space{workspace, bytes};
    const bool in_place = static_cast<const void*>(in) == out && sizeof(In) == sizeof(Out);
    bool good = hg::cub_workspace(space, n);
    good = good && hg::cub_array(in, n) && hg::cub_array(out, n);
    good = good && (in_place || hg::cub_apart(in, n, out, n));
    if (!good) return cudaErrorInvalidValue;
    return hg::cub_enqueue(stream, "cub::DeviceScan", space, [=] {
      Out total{};
      for (std::size_t i = 0; i < n; ++i) {
        const Out next = total + Out(in[i]);
        out[i] = inclusive ? next : total;
        total = next;
      }
    });
  }
};

}  // namespace cub
