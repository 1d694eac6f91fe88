// Recurrent layers of cuDNN's RNN v8 API: descriptors, the layout of the weight space, and a call
// as it is checked on the host and run on the device.
#pragma once
#include <vector>

#include "cudnn_handle.h"

struct cudnnTensorStruct {
  hg::Number type = hg::Number::f32;
  cudnnDataType_t data_type = CUDNN_DATA_FLOAT;
  std::vector<int> dims, strides;  // empty: not set
};

struct cudnnDropoutStruct {
  bool set = false;  // with probability 0: the only one known
};

struct cudnnRNNStruct {
  bool set = false;
  cudnnRNNAlgo_t algorithm = CUDNN_RNN_ALGO_STANDARD;
  cudnnRNNMode_t mode = CUDNN_RNN_TANH;
  cudnnRNNBiasMode_t bias = CUDNN_RNN_DOUBLE_BIAS;
  hg::Number type = hg::Number::f32;
  bool tf32 = false;
  bool padded_io = false;
  int input = 0, hidden = 0;

  int gates() const { return mode == CUDNN_LSTM ? 4 : mode == CUDNN_GRU ? 3 : 1; }
  int biases() const {
    return bias == CUDNN_RNN_NO_BIAS ? 0 : bias == CUDNN_RNN_DOUBLE_BIAS ? 2 : 1;
  }
  // Elements before a gate's part: input matrices, recurrent matrices, input biases, recurrent
  // biases.
  std::size_t input_matrix(int gate) const { return std::size_t(gate) * hidden * input; }
  std::size_t recurrent_matrix(int gate) const {
    return input_matrix(gates()) + std::size_t(gate) * hidden * hidden;
  }
  std::size_t bias_vector(bool recurrent, int gate) const {
    return recurrent_matrix(gates()) + std::size_t((recurrent ? gates() : 0) + gate) * hidden;
  }
  std::size_t weight_count() const {
    return recurrent_matrix(gates()) + std::size_t(biases()) * gates() * hidden;
  }
  std::size_t weight_bytes() const { return weight_count() * hg::bytes_of(type); }
};

struct cudnnRNNDataStruct {
  bool set = false;
  hg::Number type = hg::Number::f32;
  cudnnRNNDataLayout_t layout = CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED;
  int steps = 0, batch = 0, width = 0;
  std::vector<int> lengths;
  bool has_fill = false;  // without one, padding in the output is undefined: NaN
  float fill = 0;

  std::size_t at(int step, int row) const {
    const bool sequence_major = layout == CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED;
    const std::size_t place =
        sequence_major ? std::size_t(step) * batch + row : std::size_t(row) * steps + step;
    return place * width;
  }
  std::size_t bytes() const { return std::size_t(steps) * batch * width * hg::bytes_of(type); }
};

namespace hg {

using RnnLayer = cudnnRNNStruct;
using RnnData = cudnnRNNDataStruct;

// What forward leaves for backward, in float, behind a header: of every step and row the gates, an
// extra row (LSTM: the cell; GRU: the recurrent part of the new gate), and room for the gradients
// at the gates of inputs and of recurrent products.
struct ReserveHeader {
  static constexpr std::uint64_t kMagic = 0x726e6e7265736572u;
  enum Phase : std::uint64_t { forward = 1, data = 2 };
  std::uint64_t magic, shape, contents, phase;
};

struct RnnCall {
  RnnLayer layer;
  RnnData x_data, y_data;
  const void *x = nullptr, *hx = nullptr, *cx = nullptr, *weights = nullptr;
  void *y = nullptr, *hy = nullptr, *cy = nullptr;
  const void *dy = nullptr, *dhy = nullptr, *dcy = nullptr;
  void *dx = nullptr, *dhx = nullptr, *dcx = nullptr, *dweights = nullptr;
  const std::int32_t* device_lengths = nullptr;
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
  void* reserve = nullptr;  // forward: null for inference

  std::size_t cells() const { return std::size_t(x_data.steps) * x_data.batch; }
};

std::size_t reserve_bytes(const RnnLayer& layer, const RnnData& x);
void run_rnn_forward(const RnnCall& call);
void run_rnn_backward_data(const RnnCall& call);
void run_rnn_backward_weights(const RnnCall& call);

}  // namespace hg
