#include "runtime_test.h"

namespace hg::test {
namespace {
using GpuOnHostStreams = GpuOnHost;
constexpr int kCount = 1000;

// y = 2 on b, x = 3 on a, then y += x on b, which is 5 when b waits for a.
class Step {
 public:
  Step() {
    EXPECT_EQ(cudaMemset(x_, 0, kCount * sizeof(float)), cudaSuccess);
  }
  float run(bool with_wait) {
    fill(y_, 2, kCount, b_);
    fill(x_, 3, kCount, a_);
    EXPECT_EQ(cudaEventRecord(filled_, a_), cudaSuccess);
    if (with_wait) {
      EXPECT_EQ(cudaStreamWaitEvent(b_, filled_, 0), cudaSuccess);
    }
    add(y_, x_, kCount, b_);
    EXPECT_EQ(cudaMemcpyAsync(host_, y_, kCount * sizeof(float), cudaMemcpyDeviceToHost, b_),
              cudaSuccess);
    EXPECT_EQ(b_.wait(), cudaSuccess);
    const float result = host_[7];
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(cudaMemset(x_, 0, kCount * sizeof(float)), cudaSuccess);
    return result;
  }

 private:
  Stream a_, b_;
  Event filled_;
  Buffer<float> x_{kCount}, y_{kCount};
  Pinned<float> host_{kCount};
};

int wrong_of_20(When when, bool with_wait) {
  policy().when = when;
  Step step;
  int wrong = 0;
  for (int i = 0; i < 20; ++i) wrong += step.run(with_wait) != 5;
  return wrong;
}

TEST_F(GpuOnHostStreams, WithTheEventWaitEveryPolicyIsRight) {
  for (const When when : {When::lazy, When::random, When::eager}) {
    EXPECT_EQ(wrong_of_20(when, true), 0);
  }
}

TEST_F(GpuOnHostStreams, WithoutTheEventWaitLazyIsAlwaysWrongAndRandomSometimes) {
  EXPECT_EQ(wrong_of_20(When::lazy, false), 20);
  EXPECT_GT(wrong_of_20(When::random, false), 0);
  EXPECT_EQ(wrong_of_20(When::eager, false), 0);
}

TEST_F(GpuOnHostStreams, NothingIsThereUntilTheHostHasWaited) {
  const Stream stream;
  const Buffer<float> x(4);
  const Pinned<float> host(4);
  host[0] = 7;
  fill(x, 3, 4, stream);
  cudaMemcpyAsync(host, x, 4 * sizeof(float), cudaMemcpyDeviceToHost, stream);
  EXPECT_NE(host[0], 7) << "the old value may not be relied on";
  EXPECT_NE(x.values()[0], 3) << "cudaMemcpy does not wait for streams of their own";
  EXPECT_EQ(stream.wait(), cudaSuccess);
  EXPECT_EQ(host[0], 3);
}

TEST_F(GpuOnHostStreams, AQueryMakesProgressInTheEnd) {
  const Stream stream;
  const Buffer<float> x(4);
  fill(x, 3, 4, stream);
  EXPECT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
  int asked = 1;
  while (cudaStreamQuery(stream) == cudaErrorNotReady && asked < 100) ++asked;
  EXPECT_LT(asked, 100);
  EXPECT_EQ(x.values()[0], 3);
}

TEST_F(GpuOnHostStreams, TimeBetweenEvents) {
  const Stream stream;
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  ASSERT_EQ(cudaEventCreate(&begin), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&end), cudaSuccess);
  const Event untimed;
  const Buffer<float> x(kCount);
  float milliseconds = -1;
  cudaEventRecord(begin, stream);
  fill(x, 1, kCount, stream);
  cudaEventRecord(end, stream);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, begin, end), cudaErrorNotReady);
  EXPECT_EQ(cudaEventSynchronize(end), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, begin, end), cudaSuccess);
  EXPECT_GT(milliseconds, 0);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, begin, untimed), cudaErrorInvalidResourceHandle);
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
}

TEST_F(GpuOnHostStreams, HostFunctionsRunInOrder) {
  const Stream stream;
  int calls = 0;
  const auto count_call = [](void* data) { ++*static_cast<int*>(data); };
  EXPECT_EQ(cudaLaunchHostFunc(stream, count_call, &calls), cudaSuccess);
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(stream.wait(), cudaSuccess);
  EXPECT_EQ(calls, 1);
}

TEST_F(GpuOnHostStreams, EventsOrderStreamsOfTwoDevices) {
  policy().devices = 2;
  const Stream first;
  const Buffer<float> x(kCount);
  const Event filled;
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  const Stream second;
  const Pinned<float> host(1);
  fill(x, 4, kCount, first);
  EXPECT_EQ(cudaEventRecord(filled, second), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventRecord(filled, first), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(second, filled, 0), cudaSuccess);
  EXPECT_EQ(second.wait(), cudaSuccess);
  EXPECT_EQ(x.values()[0], 4);
  cudaSetDevice(0);
}

TEST_F(GpuOnHostStreams, TheDefaultStreamIsRefused) {
  const Buffer<float> x(4);
  EXPECT_DEATH(fill(x, 1, 4, nullptr), "fill_kernel on the default stream");
  cudaStream_t stream = nullptr;
  EXPECT_DEATH(cudaStreamCreate(&stream), "synchronises with the default stream");
}
}  // namespace
}  // namespace hg::test
