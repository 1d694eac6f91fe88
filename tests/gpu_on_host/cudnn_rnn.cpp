// What the RNN v8 calls check before their work becomes an operation of the handle's stream.
#include "cudnn_rnn.h"

namespace {

using hg::RnnCall;

cudnnStatus_t bad(const char* what) {
  return hg::refuse(CUDNN_STATUS_BAD_PARAM, "cudnnRNN: %s", what);
}

bool packed(const cudnnTensorStruct* t, const hg::RnnLayer& layer, int batch) {
  return t && t->type == layer.type && t->dims == std::vector<int>{1, batch, layer.hidden} &&
         t->strides == std::vector<int>{batch * layer.hidden, layer.hidden, 1};
}

bool on_device(const void* p, std::size_t bytes) {
  return p && hg::aligned(p, 16) && hg::device_range(p, bytes);
}

cudnnStatus_t read_shapes(cudnnHandle_t handle, cudnnRNNDescriptor_t layer,
                          cudnnRNNDataDescriptor_t x, cudnnRNNDataDescriptor_t y, RnnCall* call) {
  if (!handle || !layer || !layer->set || !x || !x->set || !y || !y->set) {
    return bad("a handle or descriptor that was not set");
  }
  if (!layer->padded_io) return bad("unpacked layouts need CUDNN_RNN_PADDED_IO_ENABLED");
  if (x->type != layer->type || y->type != layer->type) return bad("data of another type");
  if (x->width != layer->input || y->width != layer->hidden) return bad("vectors of another size");
  if (x->steps != y->steps || x->lengths != y->lengths || x->layout != y->layout) {
    return bad("input and output of different shapes");
  }
  const bool persistent = layer->algorithm == CUDNN_RNN_ALGO_PERSIST_STATIC;
  for (int length : x->lengths) {
    if (!persistent || length == x->steps) continue;
    return hg::refuse(CUDNN_STATUS_NOT_SUPPORTED, "the persistent algorithm: equal lengths only");
  }
  call->layer = *layer;
  call->x_data = *x;
  call->y_data = *y;
  return CUDNN_STATUS_SUCCESS;
}

struct Spaces {
  const std::int32_t* lengths;
  std::size_t weight_bytes;
  const void* weights;
  std::size_t workspace_bytes;
  void* workspace;
  std::size_t reserve_bytes;
  void* reserve;
  bool training;
};

cudnnStatus_t read_spaces(const Spaces& spaces, RnnCall* call) {
  // Lengths come from the descriptors; a copy on the device is no longer asked for.
  call->device_lengths = spaces.lengths;
  const std::size_t batch = std::size_t(call->x_data.batch);
  if (spaces.lengths && !hg::device_range(spaces.lengths, batch * sizeof(std::int32_t))) {
    return bad("lengths not on the device");
  }
  if (spaces.weight_bytes < call->layer.weight_bytes() ||
      !on_device(spaces.weights, call->layer.weight_bytes())) {
    return bad("weight space missing or too small");
  }
  if (spaces.workspace_bytes < hg::kCudnnWorkspace ||
      !on_device(spaces.workspace, spaces.workspace_bytes)) {
    return bad("workspace missing or too small");
  }
  call->workspace = spaces.workspace;
  call->workspace_bytes = spaces.workspace_bytes;
  if (!spaces.training) return CUDNN_STATUS_SUCCESS;
  const std::size_t reserve = hg::reserve_bytes(call->layer, call->x_data);
  if (spaces.reserve_bytes < reserve || !on_device(spaces.reserve, reserve)) {
    return bad("reserve space missing or too small");
  }
  call->reserve = spaces.reserve;
  return CUDNN_STATUS_SUCCESS;
}

// Of initial and final states, null where there is none.
cudnnStatus_t check_states(const RnnCall& call, cudnnTensorDescriptor_t descriptor,
                           std::initializer_list<const void*> states) {
  const int batch = call.x_data.batch;
  const std::size_t bytes = std::size_t(batch) * call.layer.hidden * hg::bytes_of(call.layer.type);
  for (const void* state : states) {
    if (!state) continue;
    if (!packed(descriptor, call.layer, batch)) return bad("states: 1 x batch x hidden, packed");
    if (!on_device(state, bytes)) return bad("a state not on the device or not aligned");
  }
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t check_cells(const RnnCall& call, cudnnTensorDescriptor_t descriptor,
                          std::initializer_list<const void*> cells) {
  if (call.layer.mode == CUDNN_LSTM) return check_states(call, descriptor, cells);
  for (const void* cell : cells) {
    if (cell) return bad("cell states of a layer that has none");
  }
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t enqueue(cudnnHandle_t handle, const char* what, const RnnCall& call,
                      void (*work)(const RnnCall&)) {
  const cudaError_t error = hg::enqueue(handle->stream, what, [call, work] { work(call); });
  return error ? CUDNN_STATUS_EXECUTION_FAILED_CUDART : CUDNN_STATUS_SUCCESS;
}

}  // namespace

extern "C" {

cudnnStatus_t cudnnRNNForward(cudnnHandle_t handle, cudnnRNNDescriptor_t layer,
                              cudnnForwardMode_t mode, const int32_t lengths[],
                              cudnnRNNDataDescriptor_t x_desc, const void* x,
                              cudnnRNNDataDescriptor_t y_desc, void* y,
                              cudnnTensorDescriptor_t h_desc, const void* hx, void* hy,
                              cudnnTensorDescriptor_t c_desc, const void* cx, void* cy,
                              size_t weight_bytes, const void* weights, size_t workspace_bytes,
                              void* workspace, size_t reserve_bytes, void* reserve) {
  RnnCall call;
  if (const auto status = read_shapes(handle, layer, x_desc, y_desc, &call)) return status;
  const Spaces spaces{lengths,   weight_bytes,  weights, workspace_bytes,
                      workspace, reserve_bytes, reserve, mode == CUDNN_FWD_MODE_TRAINING};
  if (const auto status = read_spaces(spaces, &call)) return status;
  if (const auto status = check_states(call, h_desc, {hx, hy})) return status;
  if (const auto status = check_cells(call, c_desc, {cx, cy})) return status;
  if (!on_device(x, x_desc->bytes()) || !on_device(y, y_desc->bytes()) ||
      hg::overlap(x, x_desc->bytes(), y, y_desc->bytes())) {
    return bad("input or output not on the device, not aligned, or overlapping");
  }
  call.x = x;
  call.y = y;
  call.hx = hx;
  call.hy = hy;
  call.cx = cx;
  call.cy = cy;
  call.weights = weights;
  return enqueue(handle, "cudnnRNNForward", call, hg::run_rnn_forward);
}

cudnnStatus_t cudnnRNNBackwardData_v8(
    cudnnHandle_t handle, cudnnRNNDescriptor_t layer, const int32_t lengths[],
    cudnnRNNDataDescriptor_t y_desc, const void* y, const void* dy, cudnnRNNDataDescriptor_t x_desc,
    void* dx, cudnnTensorDescriptor_t h_desc, const void* hx, const void* dhy, void* dhx,
    cudnnTensorDescriptor_t c_desc, const void* cx, const void* dcy, void* dcx, size_t weight_bytes,
    const void* weights, size_t workspace_bytes, void* workspace, size_t reserve_bytes,
    void* reserve) {
  RnnCall call;
  if (const auto status = read_shapes(handle, layer, x_desc, y_desc, &call)) return status;
  const Spaces spaces{lengths,   weight_bytes,  weights, workspace_bytes,
                      workspace, reserve_bytes, reserve, true};
  if (const auto status = read_spaces(spaces, &call)) return status;
  if (const auto status = check_states(call, h_desc, {hx, dhy, dhx})) return status;
  if (const auto status = check_cells(call, c_desc, {cx, dcy, dcx})) return status;
  if (!on_device(y, y_desc->bytes()) || !on_device(dy, y_desc->bytes()) ||
      !on_device(dx, x_desc->bytes())) {
    return bad("output, its gradient or the input's gradient not on the device or not aligned");
  }
  call.y = const_cast<void*>(y);
  call.dy = dy;
  call.dx = dx;
  call.hx = hx;
  call.dhy = dhy;
  call.dhx = dhx;
  call.cx = cx;
  call.dcy = dcy;
  call.dcx = dcx;
  call.weights = weights;
  return enqueue(handle, "cudnnRNNBackwardData_v8", call, hg::run_rnn_backward_data);
}

cudnnStatus_t cudnnRNNBackwardWeights_v8(cudnnHandle_t handle, cudnnRNNDescriptor_t layer,
                                         cudnnWgradMode_t mode, const int32_t lengths[],
                                         cudnnRNNDataDescriptor_t x_desc, const void* x,
                                         cudnnTensorDescriptor_t h_desc, const void* hx,
                                         cudnnRNNDataDescriptor_t y_desc, const void* y,
                                         size_t weight_bytes, void* dweights,
                                         size_t workspace_bytes, void* workspace,
                                         size_t reserve_bytes, void* reserve) {
  if (mode != CUDNN_WGRAD_MODE_ADD) {
    return hg::refuse(CUDNN_STATUS_NOT_SUPPORTED, "weight gradients are added, never set");
  }
  RnnCall call;
  if (const auto status = read_shapes(handle, layer, x_desc, y_desc, &call)) return status;
  const Spaces spaces{lengths,   weight_bytes,  dweights, workspace_bytes,
                      workspace, reserve_bytes, reserve,  true};
  if (const auto status = read_spaces(spaces, &call)) return status;
  if (const auto status = check_states(call, h_desc, {hx})) return status;
  if (!on_device(x, x_desc->bytes()) || !on_device(y, y_desc->bytes())) {
    return bad("input or output not on the device or not aligned");
  }
  call.x = x;
  call.y = const_cast<void*>(y);
  call.hx = hx;
  call.dweights = dweights;
  return enqueue(handle, "cudnnRNNBackwardWeights_v8", call, hg::run_rnn_backward_weights);
}
}
