// Streams, memory and policies for the tests of the stand-in itself.
#pragma once
#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "runtime.h"
#include "test_kernels.h"

namespace hg::test {
struct Event {
  Event() { EXPECT_EQ(cudaEventCreateWithFlags(&e, cudaEventDisableTiming), cudaSuccess); }
  ~Event() { cudaEventDestroy(e); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  operator cudaEvent_t() const { return e; }
  cudaEvent_t e = nullptr;
};

struct Stream {
  Stream() { EXPECT_EQ(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), cudaSuccess); }
  ~Stream() { cudaStreamDestroy(s); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return s; }
  cudaError_t wait() const { return cudaStreamSynchronize(s); }
  cudaStream_t s = nullptr;
};

template <class T>
struct Buffer {  // device memory
  explicit Buffer(std::size_t count) : n(count) {
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&p), n * sizeof(T)), cudaSuccess);
  }
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) {
    EXPECT_EQ(cudaMemcpy(p, values.data(), n * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
  }
  ~Buffer() { cudaFree(p); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  operator T*() const { return p; }
  std::vector<T> values() const {
    std::vector<T> v(n);
    EXPECT_EQ(cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return v;
  }
  T* p = nullptr;
  std::size_t n;
};

template <class T>
struct Pinned {
  explicit Pinned(std::size_t n) {
    EXPECT_EQ(cudaHostAlloc(reinterpret_cast<void**>(&p), n * sizeof(T), 0), cudaSuccess);
  }
  ~Pinned() { cudaFreeHost(p); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  operator T*() const { return p; }
  T* p = nullptr;
};

// Each test begins with the defaults and without errors, and leaves nothing behind.
class GpuOnHost : public ::testing::Test {
 protected:
  GpuOnHost() {
    ::testing::GTEST_FLAG(death_test_style) = "fast";
    policy() = Policy{};
    policy().always_protect = true;
    clear_sticky();
    cudaSetDevice(0);
  }
  ~GpuOnHost() override {
    clear_sticky();
    EXPECT_EQ(leaks(), "");
    policy() = Policy{};
  }
};
}  // namespace hg::test
