// Stands in for the CUB header of the same path.
#pragma once
#include "../stand_in.h"

namespace cub {

struct DeviceSelect {
  // The items whose flag is set, in their order, and their number.
  template <class Item, class Flag, class Chosen, class Count>
  static cudaError_t Flagged(void* workspace, std::size_t& bytes, const Item* in, const Flag* flags,
                             Item* out, Chosen* chosen_out, Count items,
                             cudaStream_t stream = nullptr) {
    if (items < 0) return cudaErrorInvalidValue;
    const auto n = std::size_t(items);
    if (!workspace) {
      bytes = hg::cub_bytes(n);
      return cudaSuccess;
    }
    const hg::CubWorkspace space{workspace, bytes};
    bool good = hg::cub_workspace(space, n) && hg::cub_array(in, n) && hg::cub_array(flags, n);
    good = good && hg::cub_array(out, n) && hg::cub_apart(in, n, out, n);
    good = good && hg::cub_apart(flags, n, out, n);
    good = good && chosen_out != nullptr && hg::cub_array(chosen_out, 1);
    if (!good) return cudaErrorInvalidValue;
    return hg::cub_enqueue(stream, "cub::DeviceSelect::Flagged", space, [=] {
      std::size_t chosen = 0;
      for (std::size_t i = 0; i < n; ++i) {
        if (flags[i]) out[chosen++] = in[i];
      }
      *chosen_out = Chosen(chosen);
    });
  }
};

}  // namespace cub
