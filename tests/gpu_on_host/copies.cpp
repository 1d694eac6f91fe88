#include <cstring>

#include "memory.h"
#include "schedule.h"

namespace hg {
namespace {
struct Rows {  // of a copy: `count` of `bytes`, `target_pitch` and `source_pitch` apart
  std::size_t bytes;
  std::size_t count = 1;
  std::size_t target_pitch = 0;
  std::size_t source_pitch = 0;

  std::size_t span(std::size_t pitch) const { return (count - 1) * pitch + bytes; }
  bool empty() const { return bytes == 0 || count == 0; }
};

void copy_rows(void* target, const void* source, const Rows& rows) {
  for (std::size_t i = 0; i < rows.count; ++i) {
    std::memmove(static_cast<char*>(target) + i * rows.target_pitch,
                 static_cast<const char*>(source) + i * rows.source_pitch, rows.bytes);
  }
  // Large ones, so that arguments arrive.
  if (policy().wrong == "copy" && rows.bytes > 100000) static_cast<char*>(target)[99999] ^= 4;
}

bool direction_fits(cudaMemcpyKind kind, bool to_device, bool from_device) {
  switch (kind) {
    case cudaMemcpyDefault: return true;
    case cudaMemcpyHostToHost: return !to_device && !from_device;
    case cudaMemcpyHostToDevice: return to_device && !from_device;
    case cudaMemcpyDeviceToHost: return !to_device && from_device;
    case cudaMemcpyDeviceToDevice: return to_device && from_device;
  }
  return false;
}

cudaError_t check_copy(void* target, const void* source, const Rows& rows, cudaMemcpyKind kind) {
  const bool to_device = on_device(target);
  const bool from_device = on_device(source);
  if (!direction_fits(kind, to_device, from_device)) return cudaErrorInvalidMemcpyDirection;
  if (rows.count > 1 && (rows.target_pitch < rows.bytes || rows.source_pitch < rows.bytes)) {
    return cudaErrorInvalidPitchValue;
  }
  if (to_device && !device_range(target, rows.span(rows.target_pitch))) {
    return cudaErrorInvalidValue;
  }
  if (from_device && !device_range(source, rows.span(rows.source_pitch))) {
    return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}

cudaError_t copy_async(void* target, const void* source, const Rows& rows, cudaMemcpyKind kind,
                       cudaStream_t stream) {
  check_stream(stream, "cudaMemcpyAsync");
  if (rows.empty()) return set_error(cudaSuccess);
  if (const cudaError_t error = check_copy(target, source, rows, kind)) return set_error(error);
  const std::size_t target_bytes = rows.span(rows.target_pitch);
  const bool to_host = !on_device(target);
  if ((to_host && !is_pinned(target, target_bytes)) ||
      (!on_device(source) && !is_pinned(source, rows.span(rows.source_pitch)))) {
    die("cudaMemcpyAsync with pageable host memory: it would not be asynchronous");
  }
  Work work{"copy", nullptr, cudaGraphNodeTypeMemcpy};
  work.run = [=] { copy_rows(target, source, rows); };
  if (to_host && rows.count == 1) {
    work.host_target = target;
    work.host_bytes = target_bytes;
    if (!is_capturing(stream)) std::memset(target, 0xff, target_bytes);  // unknown until it has run
  }
  return enqueue_work(stream, std::move(work));
}

// As on the legacy stream, which streams made with cudaStreamNonBlocking do not wait for and which
// does not wait for them: what is pending on them has not happened yet.
cudaError_t copy_now(void* target, const void* source, const Rows& rows, cudaMemcpyKind kind) {
  if (const cudaError_t error = check_call()) return error;
  if (rows.empty()) return set_error(cudaSuccess);
  if (const cudaError_t error = check_copy(target, source, rows, kind)) return set_error(error);
  const int to = owner_of(target);
  const int from = owner_of(source);
  const Open first(to >= 0 ? to : current_device());
  const Open second(from >= 0 ? from : current_device());
  copy_rows(target, source, rows);
  return set_error(cudaSuccess);
}
}  // namespace
}  // namespace hg

using namespace hg;

extern "C" {
cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return copy_async(target, source, {bytes}, kind, stream);
}

cudaError_t cudaMemcpy2DAsync(void* target, size_t target_pitch, const void* source,
                              size_t source_pitch, size_t bytes, size_t rows, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  return copy_async(target, source, {bytes, rows, target_pitch, source_pitch}, kind, stream);
}

cudaError_t cudaMemcpy(void* target, const void* source, size_t bytes, cudaMemcpyKind kind) {
  return copy_now(target, source, {bytes}, kind);
}

cudaError_t cudaMemcpy2D(void* target, size_t target_pitch, const void* source,
                         size_t source_pitch, size_t bytes, size_t rows, cudaMemcpyKind kind) {
  return copy_now(target, source, {bytes, rows, target_pitch, source_pitch}, kind);
}

cudaError_t cudaMemsetAsync(void* target, int value, size_t bytes, cudaStream_t stream) {
  check_stream(stream, "cudaMemsetAsync");
  if (bytes == 0) return set_error(cudaSuccess);
  if (!device_range(target, bytes)) return set_error(cudaErrorInvalidValue);
  Work work{"memset", [=] { std::memset(target, value, bytes); }, cudaGraphNodeTypeMemset};
  return enqueue_work(stream, std::move(work));
}

cudaError_t cudaMemset2DAsync(void* target, size_t pitch, int value, size_t bytes, size_t rows,
                              cudaStream_t stream) {
  check_stream(stream, "cudaMemset2DAsync");
  if (bytes == 0 || rows == 0) return set_error(cudaSuccess);
  if (pitch < bytes) return set_error(cudaErrorInvalidPitchValue);
  if (!device_range(target, (rows - 1) * pitch + bytes)) return set_error(cudaErrorInvalidValue);
  Work work{"memset", nullptr, cudaGraphNodeTypeMemset};
  work.run = [=] {
    for (std::size_t i = 0; i < rows; ++i) {
      std::memset(static_cast<char*>(target) + i * pitch, value, bytes);
    }
  };
  return enqueue_work(stream, std::move(work));
}

cudaError_t cudaMemset(void* target, int value, size_t bytes) {
  if (const cudaError_t error = check_call()) return error;
  if (bytes == 0) return set_error(cudaSuccess);
  if (!device_range(target, bytes)) return set_error(cudaErrorInvalidValue);
  const Open open(owner_of(target));
  std::memset(target, value, bytes);
  return set_error(cudaSuccess);
}
}
