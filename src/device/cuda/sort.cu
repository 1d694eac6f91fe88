// The device-wide sort, alone in a file because its templates compile slowly.
#include <cub/device/device_radix_sort.cuh>

#include "device/cuda/device.cuh"
#include "device/cuda/kernels.h"

namespace cohort::cuda {

void sort_pairs(cudaStream_t s, const SortArrays& a, void* workspace, i64 bytes) {
  auto size = static_cast<std::size_t>(bytes);
  check(cub::DeviceRadixSort::SortPairs(workspace, size, a.keys_in, a.keys_out, a.values_in,
                                        a.values_out, static_cast<int>(a.count), 0, a.bits, s),
        "cub::DeviceRadixSort::SortPairs");
}

i64 sort_workspace(const SortArrays& a) {
  std::size_t size = 0;
  check(cub::DeviceRadixSort::SortPairs(nullptr, size, a.keys_in, a.keys_out, a.values_in,
                                        a.values_out, static_cast<int>(a.count), 0, a.bits),
        "cub::DeviceRadixSort::SortPairs");
  return static_cast<i64>(size);
}

}  // namespace cohort::cuda
