// Operations, and who runs them when. Inside the runtime only.
#pragma once
#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "random.h"
#include "runtime.h"

namespace hg {
constexpr int kMaxDevices = 16;

struct Work {
  std::string what;
  std::function<void()> run;
  cudaGraphNodeType kind = cudaGraphNodeTypeKernel;
  void* host_target = nullptr;  // pinned memory that is unknown until the work has run
  std::size_t host_bytes = 0;
};

enum class OpState { pending, running, done };

struct Op {
  Work work;
  int device = 0;
  unsigned long number = 0;
  OpState state = OpState::pending;
  std::vector<std::shared_ptr<Op>> before;
  std::vector<std::shared_ptr<Op>> after;
  int missing = 0;  // how many of those before are not done
};
using OpPtr = std::shared_ptr<Op>;

struct Capture;
using CapturePtr = std::shared_ptr<Capture>;
}  // namespace hg

struct CUgraphNode_st {
  hg::Work work;
  std::vector<int> before;  // positions of the nodes that it waits for
};

struct CUgraph_st {
  std::vector<CUgraphNode_st> nodes;
};

struct CUgraphExec_st {
  std::shared_ptr<const std::vector<CUgraphNode_st>> nodes;
  hg::OpPtr last;  // launches of one graph follow each other
  int launches = 0;
};

struct CUstream_st {
  int device = 0;
  int priority = 0;
  hg::OpPtr last;
  hg::CapturePtr capture;
  std::set<int> frontier;  // nodes of the capture that the next one waits for
};

struct CUevent_st {
  int device = 0;
  bool timed = true;
  hg::OpPtr op;  // null when never recorded
  std::shared_ptr<double> seconds;
  hg::CapturePtr capture;
  std::set<int> frontier;
};

namespace hg {
struct Capture {
  cudaStream_t origin = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  bool invalid = false;
  std::vector<CUgraphNode_st> nodes;
  std::set<cudaStream_t> members;
};

struct Runtime {
  std::mutex mutex;  // of all below and of what streams, events and graphs hold
  std::condition_variable changed;
  std::vector<OpPtr> runnable;  // pending, and all before them are done; oldest first
  std::vector<CapturePtr> captures;
  std::set<cudaStream_t> streams;
  Random random{7};
  unsigned long ops = 0;
};
Runtime& runtime();

int current_device();
cudaError_t sticky_error(int device);
void set_sticky(int device, cudaError_t error);

// As enqueue(), with what the runtime knows besides.
cudaError_t enqueue_work(cudaStream_t stream, Work work, const OpPtr& also_before = nullptr,
                         OpPtr* made = nullptr);
// With the lock held: a new newest operation of the stream.
OpPtr append_op(cudaStream_t stream, Work work, const OpPtr& also_before);
// Runs one piece of work of a device, unless the device is in error.
void perform(int device, const Work& work);
// Returns when these operations are done; which others ran depends on the policy.
void run_until(const std::vector<OpPtr>& targets);
// The same for the host, which then knows that they are done.
void wait_for(const std::vector<OpPtr>& targets);
void run_device(int device);

// Invalidates captures that forbid such a call now: then not cudaSuccess.
cudaError_t unsafe_call();
// As unsafe_call(), and fails after a sticky error.
cudaError_t check_call();
cudaError_t break_capture(Capture& capture, cudaError_t error);
// Aborts for the default streams, which the product must not use.
void check_stream(cudaStream_t stream, const char* what);
}  // namespace hg
