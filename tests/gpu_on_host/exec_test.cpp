#include <algorithm>
#include <cmath>
#include <numeric>

#include "exec.h"
#include "runtime_test.h"

namespace hg::test {
namespace {
using GpuOnHostKernels = GpuOnHost;
using ::testing::Each;

std::vector<float> ramp(int n) {
  std::vector<float> values(static_cast<std::size_t>(n));
  std::iota(values.begin(), values.end(), 0.0f);
  return values;
}

float sum_of_ramp(bool barrier, Order order, unsigned seed) {
  policy().order = order;
  policy().seed = seed;
  const Stream stream;
  const Buffer<float> x(ramp(256)), y(1);
  EXPECT_EQ(sum(y, x, barrier, stream), cudaSuccess);
  EXPECT_EQ(stream.wait(), cudaSuccess);
  return y.values()[0];
}

bool rotates(bool barrier, Order order, unsigned seed) {
  policy().order = order;
  policy().seed = seed;
  const Stream stream;
  const Buffer<float> x(ramp(64));
  EXPECT_EQ(rotate(x, barrier, stream), cudaSuccess);
  EXPECT_EQ(stream.wait(), cudaSuccess);
  auto expected = ramp(64);
  std::rotate(expected.begin(), expected.begin() + 1, expected.end());
  return x.values() == expected;
}

TEST_F(GpuOnHostKernels, WithBarriersEveryOrderIsRight) {
  for (const Order order : {Order::forward, Order::reverse, Order::random}) {
    for (unsigned seed = 0; seed < 5; ++seed) {
      EXPECT_EQ(sum_of_ramp(true, order, seed), 255 * 128);
      EXPECT_TRUE(rotates(true, order, seed));
    }
  }
}

TEST_F(GpuOnHostKernels, AMissingBarrierIsWrongInRandomOrder) {
  int wrong = 0;
  for (unsigned seed = 0; seed < 8; ++seed) {
    wrong += sum_of_ramp(false, Order::random, seed) != 255 * 128;
    EXPECT_FALSE(rotates(false, Order::random, seed));
  }
  EXPECT_GE(wrong, 4) << "right only when the warp that adds up happens to be the last";
}

TEST_F(GpuOnHostKernels, ASingleFixedOrderMissesSome) {
  EXPECT_TRUE(std::isnan(sum_of_ramp(false, Order::forward, 1))) << "poison, not zeros";
  EXPECT_EQ(sum_of_ramp(false, Order::reverse, 1), 255 * 128);
}

std::vector<unsigned> order_of_threads(Order order, unsigned seed) {
  policy().order = order;
  policy().seed = seed;
  const Stream stream;
  const Buffer<unsigned> counter(std::vector<unsigned>{0}), out(128);
  EXPECT_EQ(positions(counter, out, stream), cudaSuccess);
  EXPECT_EQ(stream.wait(), cudaSuccess);
  return out.values();
}

TEST_F(GpuOnHostKernels, BlocksAndThreadsRunInTheOrderAskedFor) {
  std::vector<unsigned> forward(128);
  std::iota(forward.begin(), forward.end(), 0u);
  std::vector<unsigned> reverse(forward.rbegin(), forward.rend());
  EXPECT_EQ(order_of_threads(Order::forward, 1), forward);
  EXPECT_EQ(order_of_threads(Order::reverse, 1), reverse);
  const auto random = order_of_threads(Order::random, 1);
  EXPECT_NE(random, forward);
  EXPECT_THAT(random, ::testing::UnorderedElementsAreArray(forward));
  EXPECT_NE(random, order_of_threads(Order::random, 2));
}

TEST_F(GpuOnHostKernels, VotesAndWarpOperations) {
  constexpr int kThreads = 64;
  for (const Order order : {Order::forward, Order::reverse, Order::random}) {
    policy().order = order;
    const Stream stream;
    const Buffer<int> out(7 * kThreads);
    collectives(out, stream);
    ASSERT_EQ(stream.wait(), cudaSuccess);
    const auto got = out.values();
    for (int i = 0; i < kThreads; ++i) {
      const int lane = i % 32;
      EXPECT_EQ(got[i], 22);
      EXPECT_EQ(got[kThreads + i], 2);
      EXPECT_EQ(got[2 * kThreads + i], lane + 4 < 32 ? i + 4 : i);
      EXPECT_EQ(got[3 * kThreads + i], lane % 8 ? i - 1 : i);
      EXPECT_EQ(got[4 * kThreads + i], 7);
      EXPECT_EQ(got[5 * kThreads + i], i < 32 ? 2 : 1);
      EXPECT_EQ(got[6 * kThreads + i], i / 16 * 16 + 3);
    }
  }
}

TEST_F(GpuOnHostKernels, Atomics) {
  const Stream stream;
  const Buffer<float> sum_f(std::vector<float>{1});
  const Buffer<double> sum_d(std::vector<double>{1});
  const Buffer<int> most(std::vector<int>{-1});
  const Buffer<unsigned> ticket(std::vector<unsigned>{0});
  atomics(sum_f, sum_d, most, ticket, stream);
  ASSERT_EQ(stream.wait(), cudaSuccess);
  EXPECT_EQ(sum_f.values()[0], 1 + 128 * 0.5f);
  EXPECT_EQ(sum_d.values()[0], 1 + 128 * 0.25);
  EXPECT_EQ(most.values()[0], 127);
  EXPECT_EQ(ticket.values()[0], 128u % 10);
}

TEST_F(GpuOnHostKernels, Bf16RoundsAfterEachOperation) {
  const Stream stream;
  const Buffer<float> x(std::vector<float>{0, 1, 3, 1.0f / 128}), y(4);
  bf16_square(y, x, 4, stream);
  ASSERT_EQ(stream.wait(), cudaSuccess);
  EXPECT_THAT(y.values(), ::testing::ElementsAre(1, 2, 10, 1));
}

TEST_F(GpuOnHostKernels, SharedMemoryBeginsAsNaN) {
  const Stream stream;
  const Buffer<float> out(std::vector<float>(32, 0));
  reads_unset_shared(out, stream);
  ASSERT_EQ(stream.wait(), cudaSuccess);
  EXPECT_THAT(out.values(), Each(::testing::IsNan()));
}

TEST_F(GpuOnHostKernels, WrongSynchronisationAbortsWithThePlace) {
  const Stream stream;
  const auto run = [&](cudaError_t (*kernel)(cudaStream_t)) {
    kernel(stream);
    stream.wait();
  };
  EXPECT_DEATH(run(barrier_of_some), "deadlock: 8 threads wait at __syncthreads, 24 in a warp op");
  policy().order = Order::forward;
  EXPECT_DEATH(run(barrier_after_return),
               "block \\(0,0,0\\) thread \\(7,0,0\\): __syncthreads after other threads");
  EXPECT_DEATH(run(foreign_lane), "reads lane 9, which is not in mask 0000000f");
  EXPECT_DEATH(run(shared_overrun), "shared_overrun_kernel.*past the end of shared memory");
}

TEST_F(GpuOnHostKernels, LaunchLimits) {
  const Stream stream;
  EXPECT_EQ(with_shared(1, 1024, 48 * 1024, stream), cudaSuccess);
  EXPECT_EQ(with_shared(1, 1025, 0, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(with_shared(1, dim3(1, 1, 65), 0, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(with_shared(1, 0, 0, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(with_shared(0, 32, 0, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(with_shared(dim3(1, 65536), 32, 0, stream), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(with_shared(1, 32, 50000, stream), cudaErrorInvalidValue);
  constexpr auto kShared = cudaFuncAttributeMaxDynamicSharedMemorySize;
  EXPECT_EQ(cudaFuncSetAttribute(with_shared_function(), kShared, 65537), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(with_shared_function(), kShared, 50000), cudaSuccess);
  EXPECT_EQ(with_shared(1, 32, 50000, stream), cudaSuccess);
  EXPECT_EQ(stream.wait(), cudaSuccess);
  int blocks = 0;
  cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, with_shared_function(), 256, 50000);
  EXPECT_EQ(blocks, 1);
}

TEST_F(GpuOnHostKernels, AStackOverflowIsAFaultOfTheKernel) {
  const Stream stream;
  const Buffer<int> out(std::vector<int>{0});
  deep_recursion(out, stream);
  EXPECT_EQ(stream.wait(), cudaErrorIllegalAddress);
}
}  // namespace
}  // namespace hg::test
