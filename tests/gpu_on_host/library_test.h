// Device memory and a stream for the tests of the libraries' stand-ins.
#pragma once
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <random>
#include <vector>

#include "numbers.h"

namespace hg::library_test {

// An allocation with `skip` bytes before its data, so that alignment can be spoilt.
template <class T>
class Buffer {
 public:
  explicit Buffer(const std::vector<T>& values, std::size_t skip = 0) : count_(values.size()) {
    EXPECT_EQ(cudaMalloc(&base_, count_ * sizeof(T) + skip), cudaSuccess);
    data_ = reinterpret_cast<T*>(static_cast<char*>(base_) + skip);
    set(values);
  }
  explicit Buffer(std::size_t count) : Buffer(std::vector<T>(count)) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { cudaFree(base_); }

  T* get() const { return data_; }
  std::size_t bytes() const { return count_ * sizeof(T); }
  void set(const std::vector<T>& values) {
    EXPECT_EQ(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  std::vector<T> values() const {
    std::vector<T> out(count_);
    EXPECT_EQ(cudaMemcpy(out.data(), data_, bytes(), cudaMemcpyDeviceToHost), cudaSuccess);
    return out;
  }

 private:
  void* base_ = nullptr;
  T* data_ = nullptr;
  std::size_t count_;
};

class Stream {
 public:
  Stream() { EXPECT_EQ(cudaStreamCreateWithFlags(&s_, cudaStreamNonBlocking), cudaSuccess); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { cudaStreamDestroy(s_); }
  operator cudaStream_t() const { return s_; }
  void wait() const { EXPECT_EQ(cudaStreamSynchronize(s_), cudaSuccess); }

 private:
  cudaStream_t s_ = nullptr;
};

inline std::vector<float> random_floats(std::size_t count, unsigned seed, float scale = 1.0f) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(-scale, scale);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(generator);
  return values;
}

// The bytes of values in a type, and back: what a buffer of that type holds.
inline std::vector<unsigned char> pack(Number type, const std::vector<float>& values) {
  std::vector<unsigned char> bytes(values.size() * bytes_of(type));
  for (std::size_t i = 0; i < values.size(); ++i) store(type, bytes.data(), i, values[i]);
  return bytes;
}

inline std::vector<float> unpack(Number type, const std::vector<unsigned char>& bytes) {
  std::vector<float> values(bytes.size() / bytes_of(type));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = load(type, bytes.data(), i);
  return values;
}

inline std::vector<float> rounded(Number type, const std::vector<float>& values) {
  return unpack(type, pack(type, values));
}

// Of the largest expected magnitude.
inline double tolerance(Number type) {
  return type == Number::f32 ? 1e-5 : type == Number::f16 ? 2e-3 : 1.6e-2;
}

inline void expect_near(const std::vector<float>& got, const std::vector<double>& expected,
                        double relative) {
  ASSERT_EQ(got.size(), expected.size());
  double largest = 0;
  for (double value : expected) largest = std::max(largest, std::abs(value));
  ASSERT_GT(largest, 0);
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], expected[i], relative * largest) << "element " << i;
  }
}

}  // namespace hg::library_test
