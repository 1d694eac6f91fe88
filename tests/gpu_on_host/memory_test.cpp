#include <cmath>
#include <cstdlib>
#include <thread>

#include "runtime_test.h"

namespace hg::test {
namespace {
using GpuOnHostMemory = GpuOnHost;

TEST_F(GpuOnHostMemory, TheHostCannotTouchIt) {
  const Buffer<float> x(std::vector<float>(10, 0));
  EXPECT_DEATH(x.p[3] = 1, "host code touches device memory.*byte 12 of an allocation of 40 bytes");
  EXPECT_DEATH(std::exit(x.p[3] > 0), "host code touches device memory");
}

TEST_F(GpuOnHostMemory, ItBeginsAsNaNAndIsAligned) {
  const Buffer<float> x(10);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(x.p) % 256, 0u);
  EXPECT_TRUE(std::isnan(x.values()[9]));
}

TEST_F(GpuOnHostMemory, AWriteALittlePastTheEndIsFound) {
  const Stream stream;
  const Buffer<float> x(1000);
  const auto write = [&](float* first, int n) {
    fill(first, 1, n, stream);
    stream.wait();
  };
  EXPECT_DEATH(write(x, 1001),
               "past the end of the allocation of 4000 bytes.*'kernel hg::test::fill_kernel'");
  const Buffer<float> small(10);
  EXPECT_DEATH(write(small.p - 1, 1), "before the allocation of 40 bytes");
}

TEST_F(GpuOnHostMemory, AWriteFarPastTheEndIsAnIllegalAddress) {
  const Stream stream;
  const Buffer<float> x(1000);
  const Pinned<float> unused(1);
  ::testing::internal::CaptureStderr();
  fill(x, 1, 2000, stream);
  EXPECT_EQ(stream.wait(), cudaErrorIllegalAddress);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              ::testing::ContainsRegex("illegal memory access.*of an allocation of 4000 bytes on "
                                       "device 0. by 'kernel hg::test::fill_kernel', block"));
}

TEST_F(GpuOnHostMemory, AfterAFaultEverythingFailsAndNothingRuns) {
  const Stream stream;
  const Buffer<float> x(std::vector<float>{5});
  fill(reinterpret_cast<float*>(64), 1, 1, stream);  // null would be caught before, by a sanitizer
  fill(x, 1, 1, stream);
  EXPECT_EQ(stream.wait(), cudaErrorIllegalAddress);
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, 4), cudaErrorIllegalAddress);
  EXPECT_EQ(fill(x, 1, 1, stream), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress) << "it stays";
  clear_sticky();
  EXPECT_EQ(x.values()[0], 5);
  fill(x, 2, 1, stream);  // the executor works again
  EXPECT_EQ(stream.wait(), cudaSuccess);
  EXPECT_EQ(x.values()[0], 2);
}

TEST_F(GpuOnHostMemory, AFaultOnOneDeviceLeavesTheOther) {
  policy().devices = 2;
  const Stream first;
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  const Stream second;
  const Buffer<float> y(std::vector<float>{0});
  fill(y, 3, 1, first);  // memory of the other device: no peer access
  EXPECT_EQ(first.wait(), cudaErrorIllegalAddress);
  fill(y, 4, 1, second);
  EXPECT_EQ(second.wait(), cudaSuccess);
  EXPECT_EQ(y.values()[0], 4);
  cudaSetDevice(0);
  clear_sticky();
}

TEST_F(GpuOnHostMemory, FreedAddressesAreNeverUsedAgain) {
  void* first = nullptr;
  void* second = nullptr;
  ASSERT_EQ(cudaMalloc(&first, 100), cudaSuccess);
  ASSERT_EQ(cudaFree(first), cudaSuccess);
  ASSERT_EQ(cudaMalloc(&second, 100), cudaSuccess);
  EXPECT_NE(first, second);
  EXPECT_EQ(cudaFree(first), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(second), cudaSuccess);
  const Stream stream;
  fill(static_cast<float*>(first), 1, 1, stream);
  EXPECT_EQ(stream.wait(), cudaErrorIllegalAddress);
}

TEST_F(GpuOnHostMemory, OutOfMemory) {
  policy().memory_mib = 1;
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, (1 << 20) + 1), cudaErrorMemoryAllocation);
  EXPECT_EQ(p, nullptr);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  std::size_t free = 0;
  std::size_t total = 0;
  const Buffer<char> half(1 << 19);
  EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  EXPECT_EQ(total, 1u << 20);
  EXPECT_EQ(free, 1u << 19);
  fail_next_malloc();
  EXPECT_EQ(cudaMalloc(&p, 4), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
}

TEST_F(GpuOnHostMemory, CopiesAreChecked) {
  const Stream stream;
  const Buffer<float> x(4);
  const Pinned<float> host(4);
  std::vector<float> pageable(4);
  const auto copy = [&](void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    return cudaMemcpyAsync(to, from, bytes, kind, stream);
  };
  EXPECT_EQ(copy(x, host, 17, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(copy(x, host, 16, cudaMemcpyDeviceToHost), cudaErrorInvalidMemcpyDirection);
  EXPECT_EQ(copy(x, x, 16, cudaMemcpyHostToDevice), cudaErrorInvalidMemcpyDirection);
  EXPECT_DEATH(copy(pageable.data(), x, 16, cudaMemcpyDeviceToHost), "pageable host memory");
  EXPECT_EQ(cudaHostRegister(pageable.data(), 16, 0), cudaSuccess);
  EXPECT_EQ(copy(pageable.data(), x, 16, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(cudaHostUnregister(pageable.data()), cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(x, 0, 17, stream), cudaErrorInvalidValue);
  cudaGetLastError();
}

TEST_F(GpuOnHostMemory, RowsOfTwoPitches) {
  const Stream stream;
  const Buffer<char> wide(std::vector<char>(12, '.'));
  const std::vector<char> narrow{'a', 'b', 'c', 'd', 'e', 'f'};
  EXPECT_EQ(cudaMemcpy2D(wide, 4, narrow.data(), 2, 2, 3, cudaMemcpyHostToDevice), cudaSuccess);
  EXPECT_THAT(wide.values(), ::testing::ElementsAreArray("ab..cd..ef..", 12));
  EXPECT_EQ(cudaMemcpy2D(wide, 1, narrow.data(), 2, 2, 3, cudaMemcpyHostToDevice),
            cudaErrorInvalidPitchValue);
  EXPECT_EQ(cudaMemset2DAsync(wide, 4, '-', 1, 3, stream), cudaSuccess);
  EXPECT_EQ(stream.wait(), cudaSuccess);
  EXPECT_THAT(wide.values(), ::testing::ElementsAreArray("-b..-d..-f..", 12));
  cudaGetLastError();
}

TEST_F(GpuOnHostMemory, LeaksAreCounted) {
  EXPECT_EQ(leaks(), "");
  {
    const Buffer<float> x(10);
    const Pinned<float> host(1);
    const Stream stream;
    const Event event;
    EXPECT_EQ(leaks(),
              "1 device allocations, 40 bytes\n1 pinned host ranges\n1 of event\n1 of stream\n");
  }
  EXPECT_EQ(leaks(), "");
}

TEST_F(GpuOnHostMemory, ALeakAtTheExitIsAnError) {
  const auto leak = [] {
    policy().fail_on_leaks = true;
    void* p = nullptr;
    cudaMalloc(&p, 8);
    std::exit(0);
  };
  EXPECT_EXIT(leak(), ::testing::ExitedWithCode(1), "never destroyed:\n1 device allocations");
}

TEST_F(GpuOnHostMemory, HostThreadsEachWithADevice) {
  constexpr int kThreads = 4;
  policy().devices = kThreads;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([i] {
      ASSERT_EQ(cudaSetDevice(i), cudaSuccess);
      const Stream stream;
      const Buffer<float> x(std::vector<float>(1000, 0)), one(std::vector<float>(1000, 1));
      for (int k = 0; k < 50; ++k) {
        add(x, one, 1000, stream);
        if (k % 10 == 0) {
          ASSERT_EQ(stream.wait(), cudaSuccess);
        }
      }
      ASSERT_EQ(stream.wait(), cudaSuccess);
      EXPECT_THAT(x.values(), ::testing::Each(50));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(GpuOnHostMemory, HostThreadsOnOneDevice) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([] {
      const Stream stream;
      const Buffer<float> x(std::vector<float>(256, 0)), one(std::vector<float>(256, 1));
      for (int k = 0; k < 50; ++k) add(x, one, 256, stream);
      ASSERT_EQ(stream.wait(), cudaSuccess);
      EXPECT_THAT(x.values(), ::testing::Each(50));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(GpuOnHostMemory, Devices) {
  policy().devices = 0;
  int n = -1;
  EXPECT_EQ(cudaGetDeviceCount(&n), cudaErrorNoDevice);
  policy().devices = 2;
  EXPECT_EQ(cudaGetDeviceCount(&n), cudaSuccess);
  EXPECT_EQ(n, 2);
  EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
  cudaDeviceProp properties;
  EXPECT_EQ(cudaGetDeviceProperties(&properties, 1), cudaSuccess);
  EXPECT_EQ(properties.warpSize, 32);
  char text[16];
  EXPECT_EQ(cudaDeviceGetPCIBusId(text, sizeof text, 1), cudaSuccess);
  EXPECT_STREQ(text, "0000:11:00.0");
  EXPECT_STREQ(cudaGetErrorName(cudaErrorInvalidDevice), "cudaErrorInvalidDevice");
}
}  // namespace
}  // namespace hg::test
