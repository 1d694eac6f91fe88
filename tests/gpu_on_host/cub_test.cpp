#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_run_length_encode.cuh>
#include <cub/device/device_scan.cuh>
#include <cub/device/device_select.cuh>

#include "library_test.h"

namespace hg::library_test {
namespace {

using Ints = std::vector<int>;

TEST(GpuOnHostCub, SortPairsIsStableAndTrashesItsWorkspace) {
  const Stream stream;
  const Buffer<int> keys(Ints{3, 1, 2, 1, 3, 0}), values(Ints{10, 11, 12, 13, 14, 15});
  const Buffer<int> keys_out(6), values_out(6);
  auto sort = [&](void* workspace, std::size_t& bytes, int end_bit) {
    return cub::DeviceRadixSort::SortPairs(workspace, bytes, keys.get(), keys_out.get(),
                                           values.get(), values_out.get(), 6, 0, end_bit, stream);
  };
  std::size_t bytes = 0;
  ASSERT_EQ(sort(nullptr, bytes, 2), cudaSuccess);
  ASSERT_GT(bytes, 0u);
  const Buffer<unsigned char> workspace(bytes);
  ASSERT_EQ(sort(workspace.get(), bytes, 2), cudaSuccess);
  stream.wait();
  EXPECT_EQ(keys_out.values(), (Ints{0, 1, 1, 2, 3, 3}));
  EXPECT_EQ(values_out.values(), (Ints{15, 11, 13, 12, 10, 14}));
  EXPECT_EQ(workspace.values(), std::vector<unsigned char>(bytes, 0xff));
  // Only the bits asked for count.
  ASSERT_EQ(sort(workspace.get(), bytes, 1), cudaSuccess);
  stream.wait();
  EXPECT_EQ(values_out.values(), (Ints{12, 15, 10, 11, 13, 14}));
}

TEST(GpuOnHostCub, SortPairsRefuses) {
  const Stream stream;
  const Buffer<int> keys(8), values(8), keys_out(8), values_out(8);
  std::size_t bytes = 0;
  const Buffer<unsigned char> workspace(8192);
  auto sort = [&](int* out, std::size_t given, int items, int end_bit) {
    return cub::DeviceRadixSort::SortPairs(workspace.get(), given, keys.get(), out, values.get(),
                                           values_out.get(), items, 0, end_bit, stream);
  };
  cub::DeviceRadixSort::SortPairs(nullptr, bytes, keys.get(), keys_out.get(), values.get(),
                                  values_out.get(), 8);
  EXPECT_EQ(sort(keys_out.get(), bytes, 8, 32), cudaSuccess);
  EXPECT_EQ(sort(keys_out.get(), bytes - 1, 8, 32), cudaErrorInvalidValue);
  EXPECT_EQ(sort(keys_out.get(), 8192, 9, 32), cudaErrorInvalidValue);
  EXPECT_EQ(sort(keys_out.get(), 8192, 8, 33), cudaErrorInvalidValue);
  EXPECT_EQ(sort(keys.get(), 8192, 8, 32), cudaErrorInvalidValue);
  int host[8];
  EXPECT_EQ(sort(host, 8192, 8, 32), cudaErrorInvalidValue);
  stream.wait();
}

TEST(GpuOnHostCub, SignedKeys) {
  const Stream stream;
  const Buffer<int> keys(Ints{3, -1, 2, -7}), values(Ints{0, 1, 2, 3}), keys_out(4), values_out(4);
  const Buffer<unsigned char> workspace(8192);
  std::size_t bytes = 8192;
  ASSERT_EQ(cub::DeviceRadixSort::SortPairs(workspace.get(), bytes, keys.get(), keys_out.get(),
                                            values.get(), values_out.get(), 4, 0, 32, stream),
            cudaSuccess);
  stream.wait();
  EXPECT_EQ(values_out.values(), (Ints{3, 1, 2, 0}));
}

TEST(GpuOnHostCub, ScanRunsAndSelect) {
  const Stream stream;
  const Buffer<int> in(Ints{4, 4, 1, 4, 4, 4}), out(6), lengths(6), count(1);
  const Buffer<unsigned char> workspace(8192);
  std::size_t bytes = 8192;
  void* const space = workspace.get();
  ASSERT_EQ(cub::DeviceScan::ExclusiveSum(space, bytes, in.get(), out.get(), 6, stream),
            cudaSuccess);
  stream.wait();
  EXPECT_EQ(out.values(), (Ints{0, 4, 8, 9, 13, 17}));
  ASSERT_EQ(cub::DeviceScan::InclusiveSum(space, bytes, out.get(), out.get(), 6, stream),
            cudaSuccess);
  stream.wait();
  EXPECT_EQ(out.values(), (Ints{0, 4, 12, 21, 34, 51}));
  ASSERT_EQ(cub::DeviceRunLengthEncode::Encode(space, bytes, in.get(), out.get(), lengths.get(),
                                               count.get(), 6, stream),
            cudaSuccess);
  stream.wait();
  EXPECT_EQ(count.values(), Ints{3});
  const Ints items = out.values(), runs = lengths.values();
  EXPECT_EQ(Ints(items.begin(), items.begin() + 3), (Ints{4, 1, 4}));
  EXPECT_EQ(Ints(runs.begin(), runs.begin() + 3), (Ints{2, 1, 3}));
  const Buffer<unsigned char> flags(std::vector<unsigned char>{0, 1, 1, 0, 0, 1});
  ASSERT_EQ(cub::DeviceSelect::Flagged(space, bytes, in.get(), flags.get(), out.get(), count.get(),
                                       6, stream),
            cudaSuccess);
  stream.wait();
  const Ints chosen = out.values();
  EXPECT_EQ(count.values(), Ints{3});
  EXPECT_EQ(Ints(chosen.begin(), chosen.begin() + 3), (Ints{4, 1, 4}));
}

}  // namespace
}  // namespace hg::library_test
