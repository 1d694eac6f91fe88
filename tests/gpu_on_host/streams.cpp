#include <algorithm>
#include <atomic>
#include <chrono>

#include "race.h"
#include "schedule.h"

namespace hg {
int device_of(cudaStream_t stream) {
  check_stream(stream, "device_of");
  return stream->device;
}

bool is_capturing(cudaStream_t stream) {
  std::lock_guard lock(runtime().mutex);
  return stream && stream->capture;
}

void check_stream(cudaStream_t stream, const char* what) {
  if (stream && stream != cudaStreamLegacy && stream != cudaStreamPerThread) return;
  die("%s on the default stream: only streams made with cudaStreamNonBlocking are supported", what);
}

namespace {
double now() {
  const auto time = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(time).count();
}

// Ready only at every fourth question: a loop that polls makes progress, one question proves nothing.
bool grant_query() {
  static std::atomic<unsigned> asked{0};
  return policy().when == When::eager || ++asked % 4 == 0;
}

cudaError_t query(const OpPtr& op) {
  bool done = false;
  {
    std::lock_guard lock(runtime().mutex);
    done = !op || op->state == OpState::done;
  }
  if (done) return set_error(cudaSuccess);
  if (!grant_query()) return cudaErrorNotReady;
  {
    std::lock_guard lock(runtime().mutex);
    if (op->state == OpState::running) return cudaErrorNotReady;  // perhaps it waits for other ranks
  }
  wait_for({op});
  return set_error(cudaSuccess);
}

cudaError_t make_event(cudaEvent_t* out, bool timed) {
  *out = new CUevent_st;
  (*out)->device = current_device();
  (*out)->timed = timed;
  count("event", 1);
  return set_error(cudaSuccess);
}

// The stream joins the event's capture, or waits for its nodes.
cudaError_t wait_captured(cudaStream_t stream, cudaEvent_t event) {
  Runtime& all = runtime();
  const CapturePtr& capture = event->capture;
  if (stream->capture && stream->capture != capture) {
    return break_capture(*stream->capture, cudaErrorStreamCaptureMerge);
  }
  if (!stream->capture) {
    if (std::find(all.captures.begin(), all.captures.end(), capture) == all.captures.end()) {
      return set_error(cudaErrorCapturedEvent);
    }
    stream->capture = capture;
    stream->frontier.clear();
    capture->members.insert(stream);
  }
  stream->frontier.insert(event->frontier.begin(), event->frontier.end());
  return set_error(cudaSuccess);
}
}  // namespace
}  // namespace hg

using namespace hg;

extern "C" {
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* out, unsigned flags, int priority) {
  if (flags != cudaStreamNonBlocking) {
    die("a stream that synchronises with the default stream: use cudaStreamNonBlocking");
  }
  auto* stream = new CUstream_st;
  stream->device = current_device();
  stream->priority = priority;
  std::lock_guard lock(runtime().mutex);
  runtime().streams.insert(stream);
  count("stream", 1);
  *out = stream;
  return set_error(cudaSuccess);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned flags) {
  return cudaStreamCreateWithPriority(out, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t* out) { return cudaStreamCreateWithPriority(out, 0, 0); }

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int* priority) {
  *priority = stream->priority;
  return set_error(cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  OpPtr last;
  {
    std::lock_guard lock(runtime().mutex);
    if (!runtime().streams.count(stream)) return set_error(cudaErrorInvalidResourceHandle);
    if (stream->capture) {
      stream->capture->invalid = true;
      stream->capture->members.erase(stream);
    }
    runtime().streams.erase(stream);
    last = stream->last;
  }
  if (last) wait_for({last});
  count("stream", -1);
  delete stream;
  return set_error(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  check_stream(stream, "cudaStreamSynchronize");
  OpPtr last;
  {
    std::lock_guard lock(runtime().mutex);
    if (stream->capture) return break_capture(*stream->capture, cudaErrorStreamCaptureUnsupported);
    last = stream->last;
  }
  if (const cudaError_t error = unsafe_call()) return error;
  wait_for({last});
  return set_error(sticky_error(stream->device));
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  check_stream(stream, "cudaStreamQuery");
  OpPtr last;
  {
    std::lock_guard lock(runtime().mutex);
    if (stream->capture) return break_capture(*stream->capture, cudaErrorStreamCaptureUnsupported);
    last = stream->last;
  }
  return query(last);
}

cudaError_t cudaDeviceSynchronize() {
  const int device = current_device();
  {
    std::lock_guard lock(runtime().mutex);
    for (cudaStream_t stream : runtime().streams) {
      if (stream->device == device && stream->capture) {
        return break_capture(*stream->capture, cudaErrorStreamCaptureUnsupported);
      }
    }
  }
  run_device(device);
  return set_error(cudaSuccess);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  Work work{"host function", [=] { function(data); }, cudaGraphNodeTypeHost};
  return enqueue_work(stream, std::move(work));
}

cudaError_t cudaEventCreate(cudaEvent_t* out) { return make_event(out, true); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* out, unsigned flags) {
  return make_event(out, !(flags & cudaEventDisableTiming));
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (!event) return set_error(cudaErrorInvalidResourceHandle);
  count("event", -1);
  delete event;
  return set_error(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  check_stream(stream, "cudaEventRecord");
  if (event->device != stream->device) return set_error(cudaErrorInvalidResourceHandle);
  {
    std::lock_guard lock(runtime().mutex);
    if (stream->capture) {
      event->capture = stream->capture;
      event->frontier = stream->frontier;
      event->op.reset();
      return set_error(cudaSuccess);
    }
  }
  auto seconds = std::make_shared<double>();
  OpPtr op;
  Work work{"event", [seconds] { *seconds = now(); }, cudaGraphNodeTypeEventRecord};
  if (const cudaError_t error = enqueue_work(stream, std::move(work), nullptr, &op)) return error;
  std::lock_guard lock(runtime().mutex);
  event->capture.reset();
  event->op = op;
  event->seconds = seconds;
  return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  if (flags) die("cudaEventRecordWithFlags: flags %u are not supported", flags);
  return cudaEventRecord(event, stream);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  OpPtr op;
  {
    std::lock_guard lock(runtime().mutex);
    if (event->capture) return break_capture(*event->capture, cudaErrorCapturedEvent);
    op = event->op;
  }
  return query(op);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  OpPtr op;
  {
    std::lock_guard lock(runtime().mutex);
    if (event->capture) return break_capture(*event->capture, cudaErrorCapturedEvent);
    op = event->op;
  }
  if (const cudaError_t error = unsafe_call()) return error;
  wait_for({op});
  return set_error(sticky_error(event->device));
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  if (!begin->timed || !end->timed) return set_error(cudaErrorInvalidResourceHandle);
  std::lock_guard lock(runtime().mutex);
  if (begin->capture || end->capture) return set_error(cudaErrorCapturedEvent);
  if (!begin->op || !end->op) return set_error(cudaErrorInvalidResourceHandle);
  const bool done = begin->op->state == OpState::done && end->op->state == OpState::done;
  if (!done) return cudaErrorNotReady;
  *milliseconds = static_cast<float>((*end->seconds - *begin->seconds) * 1e3);
  return set_error(cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  check_stream(stream, "cudaStreamWaitEvent");
  if (flags) die("cudaStreamWaitEvent: flags %u are not supported", flags);
  OpPtr op;
  {
    std::lock_guard lock(runtime().mutex);
    if (event->capture) return wait_captured(stream, event);
    if (!event->op) return set_error(cudaSuccess);
    if (stream->capture) return break_capture(*stream->capture, cudaErrorStreamCaptureIsolation);
    if (!kRaceCheck && event->op->state == OpState::done) return set_error(cudaSuccess);
    op = append_op(stream, {"wait", [] {}, cudaGraphNodeTypeEmpty}, event->op);
  }
  if (policy().when == When::eager) run_until({op});
  return set_error(cudaSuccess);
}
}
