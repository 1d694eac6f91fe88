#include "cudnn_handle.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string>

namespace hg {
namespace {

std::string& last_message() {
  thread_local std::string message;
  return message;
}

}  // namespace

cudnnStatus_t refuse(cudnnStatus_t status, const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  last_message() = text;
  return status;
}

bool number_of(cudnnDataType_t type, Number* number) {
  switch (type) {
    case CUDNN_DATA_FLOAT:
      *number = Number::f32;
      return true;
    case CUDNN_DATA_BFLOAT16:
      *number = Number::bf16;
      return true;
    case CUDNN_DATA_HALF:
      *number = Number::f16;
      return true;
    default:
      return false;
  }
}

}  // namespace hg

extern "C" {

size_t cudnnGetVersion() { return CUDNN_VERSION; }
size_t cudnnGetCudartVersion() { return CUDART_VERSION; }

const char* cudnnGetErrorString(cudnnStatus_t status) {
  switch (CUDNN_STATUS_CATEGORY(status)) {
    case CUDNN_STATUS_SUCCESS:
      return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_BAD_PARAM:
      return "CUDNN_STATUS_BAD_PARAM";
    case CUDNN_STATUS_NOT_SUPPORTED:
      return "CUDNN_STATUS_NOT_SUPPORTED";
    case CUDNN_STATUS_EXECUTION_FAILED:
      return "CUDNN_STATUS_EXECUTION_FAILED";
    default:
      return "CUDNN_STATUS_(other)";
  }
}

void cudnnGetLastErrorString(char* message, size_t max_size) {
  if (max_size) std::snprintf(message, max_size, "%s", hg::last_message().c_str());
  hg::last_message().clear();
}

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  if (!handle) return hg::refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "cudnnCreate: no handle");
  *handle = new cudnnContext;
  hg::count("cuDNN handle", 1);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  if (handle) hg::count("cuDNN handle", -1);
  delete handle;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  if (!handle) return hg::refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "cudnnSetStream: no handle");
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t* stream) {
  if (!handle || !stream) {
    return hg::refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "cudnnGetStream: no handle");
  }
  *stream = handle->stream;
  return CUDNN_STATUS_SUCCESS;
}
}
