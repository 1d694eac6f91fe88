// Stands in for the CUB header of the same path.
#pragma once
#include <algorithm>
#include <numeric>
#include <type_traits>
#include <vector>

#include "../stand_in.h"

namespace cub {

struct DeviceRadixSort {
  // Stable, by the bits [begin_bit, end_bit) of the key; a signed key's top bit counts inverted.
  template <class Key, class Value, class Count>
  static cudaError_t SortPairs(void* workspace, std::size_t& bytes, const Key* keys_in,
                               Key* keys_out, const Value* values_in, Value* values_out,
                               Count items, int begin_bit = 0, int end_bit = sizeof(Key) * 8,
                               cudaStream_t stream = nullptr) {
    static_assert(std::is_integral_v<Key>, "the stand-in sorts integers only");
    if (items < 0) return cudaErrorInvalidValue;
    const auto n = std::size_t(items);
    if (!workspace) {
      bytes = hg::cub_bytes(n);
      return cudaSuccess;
    }
    const hg::CubWorkspace space{workspace, bytes};
    bool good = hg::cub_workspace(space, n) && begin_bit >= 0 && begin_bit < end_bit;
    good = good && end_bit <= int(sizeof(Key) * 8);
    good = good && hg::cub_array(keys_in, n) && hg::cub_array(keys_out, n);
    good = good && hg::cub_array(values_in, n) && hg::cub_array(values_out, n);
    good = good && hg::cub_apart(keys_in, n, keys_out, n);
    good = good && hg::cub_apart(values_in, n, values_out, n);
    good = good && hg::cub_apart(keys_out, n, values_out, n);
    if (!good) return cudaErrorInvalidValue;
    return hg::cub_enqueue(stream, "cub::DeviceRadixSort::SortPairs", space, [=] {
      std::vector<std::size_t> order(n);
      std::iota(order.begin(), order.end(), std::size_t(0));
      std::stable_sort(order.begin(), order.end(), [=](std::size_t a, std::size_t b) {
        return digits(keys_in[a], begin_bit, end_bit) < digits(keys_in[b], begin_bit, end_bit);
      });
      for (std::size_t i = 0; i < n; ++i) {
        keys_out[i] = keys_in[order[i]];
        values_out[i] = values_in[order[i]];
      }
    });
  }

 private:
  template <class Key>
  static std::uint64_t digits(Key key, int begin_bit, int end_bit) {
    auto value = std::uint64_t(std::make_unsigned_t<Key>(key));
    if (std::is_signed_v<Key>) value ^= std::uint64_t(1) << (sizeof(Key) * 8 - 1);
    if (end_bit < 64) value &= (std::uint64_t(1) << end_bit) - 1;
    return value >> begin_bit;
  }
};

}  // namespace cub
