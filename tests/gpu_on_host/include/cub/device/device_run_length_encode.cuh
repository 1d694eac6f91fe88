// Stands in for the CUB header of the same path.
#pragma once
#include "../stand_in.h"

namespace cub {

struct DeviceRunLengthEncode {
  // Every run of equal items: its item, its length; and the number of runs.
  template <class Item, class Length, class Runs, class Count>
  static cudaError_t Encode(void* workspace, std::size_t& bytes, const Item* in, Item* unique_out,
                            Length* lengths_out, Runs* runs_out, Count items,
                            cudaStream_t stream = nullptr) {
    if (items < 0) return cudaErrorInvalidValue;
    const auto n = std::size_t(items);
    if (!workspace) {
      bytes = hg::cub_bytes(n);
      return cudaSuccess;
    }
    const hg::CubWorkspace space{workspace, bytes};
    bool good = hg::cub_workspace(space, n) && hg::cub_array(in, n);
    good = good && hg::cub_array(unique_out, n) && hg::cub_array(lengths_out, n);
    good = good && runs_out != nullptr && hg::cub_array(runs_out, 1);
    good = good && hg::cub_apart(in, n, unique_out, n) && hg::cub_apart(in, n, lengths_out, n);
    if (!good) return cudaErrorInvalidValue;
    return hg::cub_enqueue(stream, "cub::DeviceRunLengthEncode::Encode", space, [=] {
      std::size_t runs = 0;
      for (std::size_t i = 0; i < n; ++i) {
        if (i == 0 || in[i] != in[i - 1]) {
          unique_out[runs] = in[i];
          lengths_out[runs] = Length(0);
          ++runs;
        }
        lengths_out[runs - 1] += Length(1);
      }
      *runs_out = Runs(runs);
    });
  }
};

}  // namespace cub
