#include <algorithm>
#include <cstring>

#include "memory.h"
#include "race.h"
#include "schedule.h"

namespace hg {
namespace {
using Nodes = std::vector<CUgraphNode_st>;

void perform_node(int device, const Nodes& nodes, int at) {
  const CUgraphNode_st& node = nodes[at];
  if (!kRaceCheck) {
    perform(device, node.work);
    return;
  }
  void* home = race_here();
  void* self = race_new();  // ordered by the edges only
  race_switch(self);
  race_acquire(&nodes);
  for (const int before : node.before) race_acquire(&nodes[before]);
  perform(device, node.work);
  race_release(&node);
  race_switch(home);
  race_delete(self);
}

// In a random order that the edges allow: a fixed one misses edges that are not there.
void run_nodes(int device, const Nodes& nodes, Random random) {
  std::vector<int> missing(nodes.size());  // how many of those before are not done
  std::vector<std::vector<int>> after(nodes.size());
  std::vector<int> ready;
  for (int i = 0; i < static_cast<int>(nodes.size()); ++i) {
    missing[i] = static_cast<int>(nodes[i].before.size());
    for (const int before : nodes[i].before) after[before].push_back(i);
    if (missing[i] == 0) ready.push_back(i);
  }
  race_release(&nodes);
  const bool in_order = policy().when == When::eager;
  while (!ready.empty()) {
    auto next = in_order ? std::min_element(ready.begin(), ready.end())
                         : ready.begin() + random.below(static_cast<std::uint32_t>(ready.size()));
    const int at = *next;
    ready.erase(next);
    perform_node(device, nodes, at);
    for (const int i : after[at]) {
      if (--missing[i] == 0) ready.push_back(i);
    }
  }
  for (const CUgraphNode_st& node : nodes) race_acquire(&node);
}

// Whether all work of the other streams flows into the origin.
bool is_joined(const Capture& capture) {
  std::set<int> seen = capture.origin->frontier;
  std::vector<int> open(seen.begin(), seen.end());
  while (!open.empty()) {
    const int at = open.back();
    open.pop_back();
    for (const int before : capture.nodes[at].before) {
      if (seen.insert(before).second) open.push_back(before);
    }
  }
  return std::all_of(capture.members.begin(), capture.members.end(), [&](cudaStream_t member) {
    return std::all_of(member->frontier.begin(), member->frontier.end(),
                       [&](int at) { return seen.count(at) > 0; });
  });
}

bool forbids(const Capture& capture) {
  if (capture.mode == cudaStreamCaptureModeGlobal) return true;
  return capture.mode == cudaStreamCaptureModeThreadLocal &&
         capture.thread == std::this_thread::get_id();
}
}  // namespace

cudaError_t break_capture(Capture& capture, cudaError_t error) {
  capture.invalid = true;
  return set_error(error);
}

cudaError_t unsafe_call() {
  std::lock_guard lock(runtime().mutex);
  for (const CapturePtr& capture : runtime().captures) {
    if (forbids(*capture)) return break_capture(*capture, cudaErrorStreamCaptureUnsupported);
  }
  return cudaSuccess;
}

cudaError_t check_call() {
  if (const cudaError_t error = unsafe_call()) return error;
  return set_error(cudaSuccess);
}
}  // namespace hg

using namespace hg;

extern "C" {
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  check_stream(stream, "cudaStreamBeginCapture");
  std::lock_guard lock(runtime().mutex);
  if (stream->capture) return set_error(cudaErrorIllegalState);
  auto capture = std::make_shared<Capture>();
  capture->origin = stream;
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->members.insert(stream);
  stream->capture = capture;
  stream->frontier.clear();
  runtime().captures.push_back(capture);
  return set_error(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  std::lock_guard lock(runtime().mutex);
  *graph = nullptr;
  const CapturePtr capture = stream->capture;
  if (!capture) return set_error(cudaErrorIllegalState);
  if (capture->origin != stream) {
    return break_capture(*capture, cudaErrorStreamCaptureUnmatched);
  }
  if (capture->mode != cudaStreamCaptureModeRelaxed &&
      capture->thread != std::this_thread::get_id()) {
    return break_capture(*capture, cudaErrorStreamCaptureWrongThread);
  }
  auto& active = runtime().captures;
  active.erase(std::find(active.begin(), active.end(), capture));
  const bool joined = is_joined(*capture);
  for (cudaStream_t member : capture->members) {
    member->capture.reset();
    member->frontier.clear();
  }
  if (capture->invalid) return set_error(cudaErrorStreamCaptureInvalidated);
  if (!joined) return set_error(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{capture->nodes};
  count("graph", 1);
  return set_error(cudaSuccess);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  std::lock_guard lock(runtime().mutex);
  *status = cudaStreamCaptureStatusNone;
  if (stream && stream->capture) {
    *status = stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                       : cudaStreamCaptureStatusActive;
  }
  return set_error(cudaSuccess);
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) {
  die("cudaThreadExchangeStreamCaptureMode is not supported");
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  if (!graph) return set_error(cudaErrorInvalidValue);
  *exec = new CUgraphExec_st{std::make_shared<const Nodes>(graph->nodes), nullptr, 0};
  count("executable graph", 1);
  return set_error(cudaSuccess);
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph,
                                          unsigned long long flags) {
  return cudaGraphInstantiate(exec, graph, flags);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return set_error(cudaSuccess); }

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  if (!graph) return set_error(cudaErrorInvalidValue);
  count("graph", -1);
  delete graph;
  return set_error(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  if (!exec) return set_error(cudaErrorInvalidValue);
  count("executable graph", -1);
  delete exec;  // launches that are pending hold its nodes
  return set_error(cudaSuccess);
}

// The number of nodes, or the first *size of them.
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* size) {
  if (nodes) {
    *size = std::min(*size, graph->nodes.size());
    for (std::size_t i = 0; i < *size; ++i) nodes[i] = &graph->nodes[i];
  } else {
    *size = graph->nodes.size();
  }
  return set_error(cudaSuccess);
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type) {
  *type = node->work.kind;
  return set_error(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  check_stream(stream, "cudaGraphLaunch");
  std::shared_ptr<const Nodes> nodes = exec->nodes;
  Random random;
  {
    std::lock_guard lock(runtime().mutex);
    // A real device makes it a child graph: nothing here needs that.
    if (stream->capture) return break_capture(*stream->capture, cudaErrorStreamCaptureUnsupported);
    random.state = policy().seed * 7919ull + static_cast<unsigned>(exec->launches++);
  }
  for (const CUgraphNode_st& node : *nodes) {
    if (node.work.host_target) std::memset(node.work.host_target, 0xff, node.work.host_bytes);
  }
  const int device = stream->device;
  Work work{"graph", [=] { run_nodes(device, *nodes, random); }, cudaGraphNodeTypeGraph};
  OpPtr last = exec->last;
  return enqueue_work(stream, std::move(work), last, &exec->last);
}
}
