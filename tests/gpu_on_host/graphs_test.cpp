#include <thread>

#include "runtime_test.h"

namespace hg::test {
namespace {
constexpr int kCount = 100;

class Graph {
 public:
  Graph() = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() {
    if (exec_) cudaGraphExecDestroy(exec_);
    if (graph_) cudaGraphDestroy(graph_);
  }
  // Ends the capture that began on the stream.
  void end(cudaStream_t origin) {
    ASSERT_EQ(cudaStreamEndCapture(origin, &graph_), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&exec_, graph_, 0), cudaSuccess);
  }
  cudaError_t launch(cudaStream_t stream) { return cudaGraphLaunch(exec_, stream); }
  std::size_t size() const {
    std::size_t n = 0;
    EXPECT_EQ(cudaGraphGetNodes(graph_, nullptr, &n), cudaSuccess);
    return n;
  }
  cudaGraph_t graph_ = nullptr;

 private:
  cudaGraphExec_t exec_ = nullptr;
};

class GpuOnHostCapture : public GpuOnHost {
 protected:
  // y = 2 on b, x = 3 on a, y += x on b, joined into a.
  void step(bool with_edge, bool join) {
    cudaEventRecord(fork_, a_);
    cudaStreamWaitEvent(b_, fork_, 0);
    fill(y_, 2, kCount, b_);
    fill(x_, 3, kCount, a_);
    cudaEventRecord(fork_, a_);
    if (with_edge) cudaStreamWaitEvent(b_, fork_, 0);
    add(y_, x_, kCount, b_);
    cudaEventRecord(joined_, b_);
    if (join) cudaStreamWaitEvent(a_, joined_, 0);
  }
  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal) {
    ASSERT_EQ(cudaStreamBeginCapture(a_, mode), cudaSuccess);
  }
  cudaError_t end() {
    cudaGraph_t graph = nullptr;
    const cudaError_t error = cudaStreamEndCapture(a_, &graph);
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();
    return error;
  }
  int wrong_of_20(bool with_edge) {
    Graph graph;
    begin();
    step(with_edge, true);
    graph.end(a_);
    int wrong = 0;
    for (int i = 0; i < 20; ++i) {
      cudaMemset(x_, 0, kCount * sizeof(float));
      EXPECT_EQ(graph.launch(a_), cudaSuccess);
      EXPECT_EQ(a_.wait(), cudaSuccess);
      wrong += y_.values()[7] != 5;
    }
    return wrong;
  }

  Stream a_, b_;
  Event fork_, joined_;
  Buffer<float> x_{kCount}, y_{kCount};
};

TEST_F(GpuOnHostCapture, AMissingEdgeIsWrongInSomeOrders) {
  EXPECT_EQ(wrong_of_20(true), 0);
  EXPECT_GT(wrong_of_20(false), 0);
  policy().when = When::eager;
  EXPECT_EQ(wrong_of_20(false), 0) << "in order of capture nothing is seen";
}

TEST_F(GpuOnHostCapture, NothingRunsWhileItIsCaptured) {
  Graph graph;
  begin();
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  EXPECT_EQ(cudaStreamIsCapturing(a_, &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusActive);
  step(true, true);
  graph.end(a_);
  EXPECT_EQ(cudaStreamIsCapturing(b_, &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusNone);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_NE(y_.values()[0], 5);
  EXPECT_EQ(graph.size(), 3u);
  std::vector<cudaGraphNode_t> nodes(3);
  std::size_t n = nodes.size();
  EXPECT_EQ(cudaGraphGetNodes(graph.graph_, nodes.data(), &n), cudaSuccess);
  cudaGraphNodeType type = cudaGraphNodeTypeEmpty;
  EXPECT_EQ(cudaGraphNodeGetType(nodes[2], &type), cudaSuccess);
  EXPECT_EQ(type, cudaGraphNodeTypeKernel);
}

TEST_F(GpuOnHostCapture, LaunchesFollowEachOther) {
  Graph graph;
  begin();
  add(y_, x_, kCount, a_);
  graph.end(a_);
  const std::vector<float> one(kCount, 1);
  cudaMemcpy(x_, one.data(), kCount * sizeof(float), cudaMemcpyHostToDevice);
  cudaMemset(y_, 0, kCount * sizeof(float));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(graph.launch(i % 2 ? b_ : a_), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(y_.values()[3], 3);
}

TEST_F(GpuOnHostCapture, ALaunchMakesItsHostTargetsUnknown) {
  const Pinned<float> host(kCount);
  Graph graph;
  begin();
  fill(y_, 4, kCount, a_);
  cudaMemcpyAsync(host, y_, kCount * sizeof(float), cudaMemcpyDeviceToHost, a_);
  graph.end(a_);
  host[0] = 4;
  EXPECT_EQ(graph.launch(a_), cudaSuccess);
  EXPECT_NE(host[0], 4);
  EXPECT_EQ(a_.wait(), cudaSuccess);
  EXPECT_EQ(host[0], 4);
}

TEST_F(GpuOnHostCapture, AFreedBufferInAReplayIsFound) {
  Graph graph;
  float* gone = nullptr;
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&gone), 400), cudaSuccess);
  begin();
  fill(gone, 1, kCount, a_);
  graph.end(a_);
  EXPECT_EQ(cudaFree(gone), cudaSuccess);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(graph.launch(a_), cudaSuccess);
  EXPECT_EQ(a_.wait(), cudaErrorIllegalAddress);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              ::testing::HasSubstr("of a freed allocation of 400 bytes on device 0) by 'kernel "
                                   "hg::test::fill_kernel'"));
}

TEST_F(GpuOnHostCapture, WorkThatIsNotJoinedIsAnError) {
  begin();
  step(true, false);
  EXPECT_EQ(end(), cudaErrorStreamCaptureUnjoined);
}

TEST_F(GpuOnHostCapture, WaitingInACaptureInvalidatesIt) {
  begin();
  EXPECT_EQ(a_.wait(), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(fill(x_, 1, kCount, a_), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  begin();
  EXPECT_EQ(cudaStreamQuery(a_), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  begin();
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  begin();
  EXPECT_EQ(cudaEventRecord(fork_, a_), cudaSuccess);
  EXPECT_EQ(cudaEventSynchronize(fork_), cudaErrorCapturedEvent);
  EXPECT_EQ(cudaEventQuery(fork_), cudaErrorCapturedEvent);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
}

TEST_F(GpuOnHostCapture, AllocationIsForbiddenAsTheModeSays) {
  const auto allocate = [] {
    void* p = nullptr;
    const cudaError_t error = cudaMalloc(&p, 4);
    if (p) cudaFree(p);
    return error;
  };
  const auto elsewhere = [&] {
    cudaError_t error = cudaSuccess;
    std::thread([&] { error = allocate(); }).join();
    return error;
  };
  begin(cudaStreamCaptureModeThreadLocal);
  EXPECT_EQ(elsewhere(), cudaSuccess);
  EXPECT_EQ(allocate(), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  begin(cudaStreamCaptureModeRelaxed);
  EXPECT_EQ(allocate(), cudaSuccess);
  EXPECT_EQ(end(), cudaSuccess);
  begin(cudaStreamCaptureModeGlobal);
  EXPECT_EQ(elsewhere(), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
}

TEST_F(GpuOnHostCapture, EventsFromOutsideAreRefused) {
  ASSERT_EQ(cudaEventRecord(joined_, b_), cudaSuccess);
  begin();
  EXPECT_EQ(cudaStreamWaitEvent(a_, joined_, 0), cudaErrorStreamCaptureIsolation);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
}

TEST_F(GpuOnHostCapture, TheEndBelongsToItsStreamAndThread) {
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(a_, &graph), cudaErrorIllegalState);
  begin();
  EXPECT_EQ(cudaStreamBeginCapture(a_, cudaStreamCaptureModeGlobal), cudaErrorIllegalState);
  cudaEventRecord(fork_, a_);
  cudaStreamWaitEvent(b_, fork_, 0);
  EXPECT_EQ(cudaStreamEndCapture(b_, &graph), cudaErrorStreamCaptureUnmatched);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  begin();
  cudaError_t error = cudaSuccess;
  std::thread([&] { error = cudaStreamEndCapture(a_, &graph); }).join();
  EXPECT_EQ(error, cudaErrorStreamCaptureWrongThread);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
}
}  // namespace
}  // namespace hg::test
