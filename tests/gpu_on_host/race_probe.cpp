// One case of the race check: what ThreadSanitizer prints about it is the result.
//   race_probe CASE right|wrong
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "runtime.h"
#include "test_kernels.h"

using namespace hg;

namespace {
constexpr int kCount = 256;

struct Setup {
  cudaStream_t a = nullptr;
  cudaStream_t b = nullptr;
  cudaEvent_t event = nullptr;
  float* x = nullptr;
  float* y = nullptr;

  Setup() {
    cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    cudaMalloc(reinterpret_cast<void**>(&x), kCount * sizeof(float));
    cudaMalloc(reinterpret_cast<void**>(&y), kCount * sizeof(float));
  }
};

// y = 2 on b, x = 3 on a, y += x on b, joined into a. In the order of this text the values are
// right in any case.
void two_streams(Setup& s, bool with_wait) {
  cudaEventRecord(s.event, s.a);
  cudaStreamWaitEvent(s.b, s.event, 0);
  test::fill(s.y, 2, kCount, s.b);
  test::fill(s.x, 3, kCount, s.a);
  cudaEventRecord(s.event, s.a);
  if (with_wait) cudaStreamWaitEvent(s.b, s.event, 0);
  test::add(s.y, s.x, kCount, s.b);
  cudaEventRecord(s.event, s.b);
  cudaStreamWaitEvent(s.a, s.event, 0);
}

void graph(Setup& s, bool with_edge) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  cudaStreamBeginCapture(s.a, cudaStreamCaptureModeGlobal);
  two_streams(s, with_edge);
  cudaStreamEndCapture(s.a, &graph);
  cudaGraphInstantiate(&exec, graph, 0);
  for (int i = 0; i < 2; ++i) cudaGraphLaunch(exec, s.a);
}
}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::string name = argv[1];
  const bool right = !std::strcmp(argv[2], "right");
  policy().when = When::eager;  // the friendliest: what is found is not found by wrong values
  policy().order = Order::forward;
  Setup setup;
  for (int i = 0; i < 3; ++i) {
    test::fill(setup.x, 1, kCount, setup.a);
    if (name == "sum") test::sum(setup.y, setup.x, right, setup.a);
    if (name == "rotate") test::rotate(setup.x, right, setup.a);
    if (name == "streams") two_streams(setup, right);
    if (name == "graph") graph(setup, right);
    cudaStreamSynchronize(setup.a);
  }
  std::puts("ran");
  return 0;
}
