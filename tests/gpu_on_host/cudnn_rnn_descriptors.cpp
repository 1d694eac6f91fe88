// Descriptors of tensors, dropout and recurrent layers, and where weights lie in the weight space.
#include <algorithm>

#include "cudnn_rnn.h"

namespace {

cudnnStatus_t bad(const char* what) { return hg::refuse(CUDNN_STATUS_BAD_PARAM, "%s", what); }

cudnnStatus_t unknown(const char* what) {
  return hg::refuse(CUDNN_STATUS_NOT_SUPPORTED, "%s", what);
}

template <class T>
cudnnStatus_t make(T** descriptor, const char* kind) {
  if (!descriptor) return bad("no place for a descriptor");
  *descriptor = new T;
  hg::count(kind, 1);
  return CUDNN_STATUS_SUCCESS;
}

template <class T>
cudnnStatus_t unmake(T* descriptor, const char* kind) {
  if (descriptor) hg::count(kind, -1);
  delete descriptor;
  return CUDNN_STATUS_SUCCESS;
}

// A part of the weight space: null and without dimensions where the layer has none.
void describe(cudnnTensorDescriptor_t descriptor, cudnnDataType_t type, int rows, int cols) {
  hg::number_of(type, &descriptor->type);
  descriptor->data_type = type;
  descriptor->dims = {1, rows, cols};
  descriptor->strides = {rows * cols, cols, 1};
}

cudnnDataType_t data_type_of(hg::Number type) {
  return type == hg::Number::f32    ? CUDNN_DATA_FLOAT
         : type == hg::Number::bf16 ? CUDNN_DATA_BFLOAT16
                                    : CUDNN_DATA_HALF;
}

}  // namespace

extern "C" {

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* descriptor) {
  return make(descriptor, "cuDNN tensor descriptor");
}

cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t descriptor) {
  return unmake(descriptor, "cuDNN tensor descriptor");
}

cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t descriptor, cudnnDataType_t type,
                                         int count, const int dims[], const int strides[]) {
  if (!descriptor || !dims || !strides || count < 3 || count > CUDNN_DIM_MAX) {
    return bad("tensor descriptor: three to eight dimensions");
  }
  if (!hg::number_of(type, &descriptor->type)) return unknown("tensor descriptor: data type");
  if (std::any_of(dims, dims + count, [](int d) { return d < 1; })) {
    return bad("tensor descriptor: dimensions above zero");
  }
  descriptor->data_type = type;
  descriptor->dims.assign(dims, dims + count);
  descriptor->strides.assign(strides, strides + count);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetTensorNdDescriptor(const cudnnTensorDescriptor_t descriptor, int requested,
                                         cudnnDataType_t* type, int* count, int dims[],
                                         int strides[]) {
  if (!descriptor || !type || !count || !dims || !strides) return bad("tensor descriptor");
  *type = descriptor->data_type;
  *count = int(descriptor->dims.size());
  const int given = std::min(requested, *count);
  std::copy_n(descriptor->dims.begin(), given, dims);
  std::copy_n(descriptor->strides.begin(), given, strides);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateDropoutDescriptor(cudnnDropoutDescriptor_t* descriptor) {
  return make(descriptor, "cuDNN dropout descriptor");
}

cudnnStatus_t cudnnDestroyDropoutDescriptor(cudnnDropoutDescriptor_t descriptor) {
  return unmake(descriptor, "cuDNN dropout descriptor");
}

cudnnStatus_t cudnnSetDropoutDescriptor(cudnnDropoutDescriptor_t descriptor, cudnnHandle_t handle,
                                        float dropout, void* states, size_t bytes,
                                        unsigned long long) {
  if (!descriptor || !handle) return bad("dropout: no descriptor or handle");
  if (dropout != 0 || states || bytes) return unknown("dropout: probability 0 only, no states");
  descriptor->set = true;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateRNNDescriptor(cudnnRNNDescriptor_t* descriptor) {
  return make(descriptor, "cuDNN RNN descriptor");
}

cudnnStatus_t cudnnDestroyRNNDescriptor(cudnnRNNDescriptor_t descriptor) {
  return unmake(descriptor, "cuDNN RNN descriptor");
}

cudnnStatus_t cudnnSetRNNDescriptor_v8(
    cudnnRNNDescriptor_t d, cudnnRNNAlgo_t algorithm, cudnnRNNMode_t mode, cudnnRNNBiasMode_t bias,
    cudnnDirectionMode_t direction, cudnnRNNInputMode_t input_mode, cudnnDataType_t type,
    cudnnDataType_t math_precision, cudnnMathType_t math_type, int32_t input, int32_t hidden,
    int32_t projection, int32_t layers, cudnnDropoutDescriptor_t dropout, uint32_t flags) {
  if (!d || input < 1 || hidden < 1 || layers < 1) return bad("RNN: sizes below one");
  if (!dropout || !dropout->set) return bad("RNN: a dropout descriptor that was set");
  if (algorithm != CUDNN_RNN_ALGO_STANDARD && algorithm != CUDNN_RNN_ALGO_PERSIST_STATIC) {
    return unknown("RNN: algorithm");
  }
  const bool known_mode =
      mode == CUDNN_LSTM || mode == CUDNN_GRU || mode == CUDNN_RNN_TANH || mode == CUDNN_RNN_RELU;
  if (!known_mode) return bad("RNN: mode");
  if (bias != CUDNN_RNN_NO_BIAS && bias != CUDNN_RNN_SINGLE_INP_BIAS &&
      bias != CUDNN_RNN_DOUBLE_BIAS) {
    return unknown("RNN: bias mode");
  }
  if (direction != CUDNN_UNIDIRECTIONAL || layers != 1) return unknown("RNN: one layer, one way");
  if (input_mode != CUDNN_LINEAR_INPUT) return unknown("RNN: input mode");
  if (projection != hidden) return unknown("RNN: projection to another size than the hidden one");
  if (!hg::number_of(type, &d->type)) return unknown("RNN: data type");
  if (math_precision != CUDNN_DATA_FLOAT) return unknown("RNN: math in float only");
  if (flags & ~CUDNN_RNN_PADDED_IO_ENABLED) return bad("RNN: flags");
  d->algorithm = algorithm;
  d->mode = mode;
  d->bias = bias;
  // Of float data only CUDNN_FMA_MATH keeps all bits: the default lets tensor cores round to TF32.
  d->tf32 = type == CUDNN_DATA_FLOAT && math_type != CUDNN_FMA_MATH;
  d->padded_io = flags & CUDNN_RNN_PADDED_IO_ENABLED;
  d->input = input;
  d->hidden = hidden;
  d->set = true;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateRNNDataDescriptor(cudnnRNNDataDescriptor_t* descriptor) {
  return make(descriptor, "cuDNN RNN data descriptor");
}

cudnnStatus_t cudnnDestroyRNNDataDescriptor(cudnnRNNDataDescriptor_t descriptor) {
  return unmake(descriptor, "cuDNN RNN data descriptor");
}

cudnnStatus_t cudnnSetRNNDataDescriptor(cudnnRNNDataDescriptor_t d, cudnnDataType_t type,
                                        cudnnRNNDataLayout_t layout, int steps, int batch,
                                        int width, const int lengths[], void* fill) {
  if (!d || steps < 1 || batch < 1 || width < 1 || !lengths) return bad("RNN data: sizes");
  if (!hg::number_of(type, &d->type)) return unknown("RNN data: type");
  if (layout != CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED &&
      layout != CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED) {
    return unknown("RNN data: packed layout");
  }
  const bool good = std::all_of(lengths, lengths + batch,
                                [steps](int length) { return length >= 0 && length <= steps; });
  if (!good) return bad("RNN data: a length below zero or above the steps");
  d->layout = layout;
  d->steps = steps;
  d->batch = batch;
  d->width = width;
  d->lengths.assign(lengths, lengths + batch);
  d->has_fill = fill != nullptr;
  d->fill = fill ? hg::load(d->type, fill, 0) : 0;
  d->set = true;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetRNNWeightSpaceSize(cudnnHandle_t handle, cudnnRNNDescriptor_t d,
                                         size_t* bytes) {
  if (!handle || !d || !d->set || !bytes) return bad("RNN: weight space of no layer");
  *bytes = d->weight_bytes();
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetRNNTempSpaceSizes(cudnnHandle_t handle, cudnnRNNDescriptor_t d,
                                        cudnnForwardMode_t mode, cudnnRNNDataDescriptor_t x,
                                        size_t* workspace, size_t* reserve) {
  if (!handle || !d || !d->set || !x || !x->set) return bad("RNN: temporary space of no layer");
  if (workspace) *workspace = hg::kCudnnWorkspace;
  if (reserve) *reserve = mode == CUDNN_FWD_MODE_TRAINING ? hg::reserve_bytes(*d, *x) : 0;
  return CUDNN_STATUS_SUCCESS;
}

// Linear layers by number: the gates of the input, then those of the recurrent product. Gates:
// LSTM input, forget, new, output; GRU reset, update, new.
cudnnStatus_t cudnnGetRNNWeightParams(cudnnHandle_t handle, cudnnRNNDescriptor_t d, int32_t layer,
                                      size_t bytes, const void* space, int32_t linear,
                                      cudnnTensorDescriptor_t matrix, void** matrix_at,
                                      cudnnTensorDescriptor_t bias, void** bias_at) {
  if (!handle || !d || !d->set || layer != 0) return bad("RNN weights: of no layer");
  if (linear < 0 || linear >= 2 * d->gates() || bytes < d->weight_bytes()) {
    return bad("RNN weights: no such linear layer, or the space is too small");
  }
  if (!matrix || !matrix_at || !bias || !bias_at) return bad("RNN weights: no place for answers");
  const bool recurrent = linear >= d->gates();
  const int gate = recurrent ? linear - d->gates() : linear;
  const std::size_t width = hg::bytes_of(d->type);
  char* const base = static_cast<char*>(const_cast<void*>(space));
  const cudnnDataType_t type = data_type_of(d->type);
  describe(matrix, type, d->hidden, recurrent ? d->hidden : d->input);
  *matrix_at = base + width * (recurrent ? d->recurrent_matrix(gate) : d->input_matrix(gate));
  const bool has_bias = recurrent ? d->biases() == 2 : d->biases() > 0;
  describe(bias, type, has_bias ? d->hidden : 0, has_bias ? 1 : 0);
  *bias_at = has_bias ? base + width * d->bias_vector(recurrent, gate) : nullptr;
  return CUDNN_STATUS_SUCCESS;
}
}
