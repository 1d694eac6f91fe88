// Large recurrent layers by cuDNN's RNN v8. It is told that every row has all steps, since lengths
// are known to the device alone when a step is replayed: states after the last valid step are
// computed and not looked at, and no gradient comes from them, so that results do not change.
#include "device/cuda/memory.h"
#include "device/cuda/recurrent.h"

namespace cohort::cuda {
namespace {

using RnnDescriptor = Owned<cudnnRNNDescriptor_t, cudnnDestroyRNNDescriptor>;
using RnnDataDescriptor = Owned<cudnnRNNDataDescriptor_t, cudnnDestroyRNNDataDescriptor>;
using DropoutDescriptor = Owned<cudnnDropoutDescriptor_t, cudnnDestroyDropoutDescriptor>;
using TensorDescriptor = Owned<cudnnTensorDescriptor_t, cudnnDestroyTensorDescriptor>;

template <class Descriptor, class Handle>
Descriptor made(cudnnStatus_t (*create)(Handle*), const char* call) {
  Handle handle = nullptr;
  check(create(&handle), call);
  return Descriptor(handle);
}

TensorDescriptor tensor() {
  return made<TensorDescriptor>(cudnnCreateTensorDescriptor, "cudnnCreateTensorDescriptor");
}

cudnnDataType_t number(DType type) {
  if (type == DType::bf16) return CUDNN_DATA_BFLOAT16;
  return type == DType::f16 ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT;
}
cudnnMathType_t math_of(const Context& x, DType type) {
  if (type == DType::f16) return CUDNN_TENSOR_OP_MATH;
  return x.precision == Precision::f32 ? CUDNN_FMA_MATH : CUDNN_DEFAULT_MATH;
}
cudnnRNNMode_t mode_of(Cell cell) {
  if (cell == Cell::lstm) return CUDNN_LSTM;
  return cell == Cell::gru ? CUDNN_GRU : CUDNN_RNN_TANH;
}

RnnDataDescriptor data_of(const Call& c, i64 width) {
  auto data = made<RnnDataDescriptor>(cudnnCreateRNNDataDescriptor, "cudnnCreateRNNDataDescriptor");
  const auto steps = static_cast<int>(c.in[0].shape[1]);
  const std::vector<int> lengths(static_cast<std::size_t>(c.rows), steps);
  check(cudnnSetRNNDataDescriptor(data.get(), number(c.in[0].dtype),
                                  CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED, steps,
                                  static_cast<int>(c.rows), static_cast<int>(width), lengths.data(),
                                  nullptr),
        "cudnnSetRNNDataDescriptor");
  return data;
}

struct Layer {
  Recurrence r;
  i64 features, units;
  DropoutDescriptor dropout;
  RnnDescriptor rnn;
  RnnDataDescriptor x, y;
  TensorDescriptor state;
  std::size_t weight_bytes = 0, workspace_bytes = 0, reserve_bytes = 0;

  Layer(const Context& context, const Call& c, const Recurrent& op)
      : r(recurrence_of(c, op)),
        features(last(c.in[0].shape)),
        units(op.units),
        dropout(made<DropoutDescriptor>(cudnnCreateDropoutDescriptor,
                                        "cudnnCreateDropoutDescriptor")),
        rnn(made<RnnDescriptor>(cudnnCreateRNNDescriptor, "cudnnCreateRNNDescriptor")),
        x(data_of(c, features)),
        y(data_of(c, units)),
        state(tensor()) {
    check(cudnnSetDropoutDescriptor(dropout.get(), context.dnn, 0, nullptr, 0, 0),
          "cudnnSetDropoutDescriptor");
    const auto hidden = static_cast<int>(units), rows = static_cast<int>(c.rows);
    check(cudnnSetRNNDescriptor_v8(
              rnn.get(), CUDNN_RNN_ALGO_STANDARD, mode_of(op.cell),
              op.cell == Cell::gru ? CUDNN_RNN_DOUBLE_BIAS : CUDNN_RNN_SINGLE_INP_BIAS,
              CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT, number(r.type), CUDNN_DATA_FLOAT,
              math_of(context, r.type), static_cast<int>(features), hidden, hidden, 1,
              dropout.get(), CUDNN_RNN_PADDED_IO_ENABLED),
          "cudnnSetRNNDescriptor_v8");
    const int dims[] = {1, rows, hidden}, strides[] = {rows * hidden, hidden, 1};
    check(cudnnSetTensorNdDescriptor(state.get(), number(r.type), 3, dims, strides),
          "cudnnSetTensorNdDescriptor");
    check(cudnnGetRNNWeightSpaceSize(context.dnn, rnn.get(), &weight_bytes),
          "cudnnGetRNNWeightSpaceSize");
    check(cudnnGetRNNTempSpaceSizes(context.dnn, rnn.get(), mode(c), x.get(), &workspace_bytes,
                                    &reserve_bytes),
          "cudnnGetRNNTempSpaceSizes");
  }
  static cudnnForwardMode_t mode(const Call& c) {
    return c.training ? CUDNN_FWD_MODE_TRAINING : CUDNN_FWD_MODE_INFERENCE;
  }
  i64 states() const { return r.rows.rows * r.steps.capacity * units; }
};

struct Memory {
  char *weights, *reserve;      // saved
  void* states;
  char *workspace, *d_weights = nullptr;
  void *d_states = nullptr, *d_in = nullptr;

  Memory(const Call& c, const Layer& l, Carver& saved, Carver& scratch)
      : weights(saved.take(static_cast<i64>(l.weight_bytes))),
        reserve(saved.take(static_cast<i64>(l.reserve_bytes))),
        states(saved.take(l.states(), size_of(l.r.type))),
        workspace(scratch.take(static_cast<i64>(l.workspace_bytes))) {
    if (c.pass == Pass::forward) return;
    d_weights = scratch.take(static_cast<i64>(l.weight_bytes));
    d_states = scratch.take(l.states(), size_of(l.r.type));
    d_in = scratch.take(c.in[0].count(), size_of(l.r.type));
  }
};

using Copies = std::vector<ParameterCopy>;

// Joins stretches that follow each other on both sides.
void add_copy(Copies& copies, DType type, const ParameterCopy& part) {
  if (!copies.empty()) {
    ParameterCopy& before = copies.back();
    const void* end = static_cast<char*>(before.copy) + before.count * size_of(type);
    if (part.copy == end && part.values == before.values + before.count) {
      before.count += part.count;
      return;
    }
  }
  copies.push_back(part);
}

// Our parameters (or gradients) and their places in a weight space. cuDNN has the gates in our
// order; of the GRU's second biases only the last is ours, the others stay zero.
Copies copies_of(const Context& context, const Layer& l, const std::vector<View>& params,
                 void* space) {
  const TensorDescriptor matrix = tensor(), bias = tensor();
  const i64 gates = gates_of(l.r.cell);
  Copies matrices, biases;
  for (i64 k = 0; k < 2 * gates; ++k) {
    void *matrix_at = nullptr, *bias_at = nullptr;
    check(cudnnGetRNNWeightParams(context.dnn, l.rnn.get(), 0, l.weight_bytes, space,
                                  static_cast<int>(k), matrix.get(), &matrix_at, bias.get(),
                                  &bias_at),
          "cudnnGetRNNWeightParams");
    const bool recurrent = k >= gates;
    const i64 gate = k % gates, size = l.units * (recurrent ? l.units : l.features);
    add_copy(matrices, l.r.type,
             {params[recurrent ? 1 : 0].as<float>() + gate * size, matrix_at, size});
    const bool inner = l.r.cell == Cell::gru && k == 2 * gates - 1;
    if (recurrent && !inner) continue;
    float* ours = params[2].as<float>() + (inner ? gates : gate) * l.units;
    add_copy(biases, l.r.type, {ours, bias_at, l.units});
  }
  matrices.insert(matrices.end(), biases.begin(), biases.end());
  return matrices;
}

void zero(cudaStream_t s, void* data, std::size_t bytes) {
  check(cudaMemsetAsync(data, 0, bytes, s), "cudaMemsetAsync");
}

}  // namespace

Needs dnn_recurrent_needs(const Context& x, const Call& c, const Recurrent& op) {
  Needs needs;
  Carver saved{View{}}, scratch{View{}};
  const Layer l(x, c, op);
  const Memory m(c, l, saved, scratch);
  needs.saved = saved.used();
  needs.scratch = scratch.used();
  return needs;
}

std::unique_ptr<Kernel> dnn_recurrent_forward(Context& x, const Call& c, const Recurrent& op) {
  Layer l(x, c, op);
  Carver saved(c.saved), scratch(c.scratch);
  const Memory m(c, l, saved, scratch);
  return kernel([&x, copies = copies_of(x, l, c.param, m.weights), l = std::move(l), m,
                 mode = Layer::mode(c), in = c.in[0].data] {
    if (l.r.cell == Cell::gru) zero(x.stream, m.weights, l.weight_bytes);
    copy_parameters(x.stream, l.r.type, copies.data(), static_cast<int>(copies.size()));
    check(cudnnRNNForward(x.dnn, l.rnn.get(), mode, nullptr, l.x.get(), in, l.y.get(), m.states,
                          l.state.get(), nullptr, nullptr, l.state.get(), nullptr, nullptr,
                          l.weight_bytes, m.weights, l.workspace_bytes, m.workspace,
                          l.reserve_bytes, l.reserve_bytes ? m.reserve : nullptr),
          "cudnnRNNForward");
    pick_states(x.stream, l.r, m.states);
  });
}

std::unique_ptr<Kernel> dnn_recurrent_backward(Context& x, const Call& c, const Recurrent& op) {
  Layer l(x, c, op);
  Carver saved(c.saved), scratch(c.scratch);
  const Memory m(c, l, saved, scratch);
  l.r.d_out = c.d_out[0].data;
  const bool direct = c.d_in[0].data && !c.accumulate[0];
  return kernel([&x, copies = copies_of(x, l, c.d_param, m.d_weights), l = std::move(l), m,
                 in = c.in[0].data, d_in = c.d_in[0].data, values = c.in[0].count(), direct] {
    void* d_x = direct ? d_in : m.d_in;
    spread_gradients(x.stream, l.r, m.d_states);
    check(cudnnRNNBackwardData_v8(x.dnn, l.rnn.get(), nullptr, l.y.get(), m.states, m.d_states,
                                  l.x.get(), d_x, l.state.get(), nullptr, nullptr, nullptr,
                                  l.state.get(), nullptr, nullptr, nullptr, l.weight_bytes,
                                  m.weights, l.workspace_bytes, m.workspace, l.reserve_bytes,
                                  m.reserve),
          "cudnnRNNBackwardData_v8");
    zero(x.stream, m.d_weights, l.weight_bytes);
    check(cudnnRNNBackwardWeights_v8(x.dnn, l.rnn.get(), CUDNN_WGRAD_MODE_ADD, nullptr, l.x.get(),
                                     in, l.state.get(), nullptr, l.y.get(), m.states,
                                     l.weight_bytes, m.d_weights, l.workspace_bytes, m.workspace,
                                     l.reserve_bytes, m.reserve),
          "cudnnRNNBackwardWeights_v8");
    add_gradients(x.stream, l.r.type, copies.data(), static_cast<int>(copies.size()));
    if (d_in && !direct) add_values(x.stream, l.r.type, d_in, l.r.type, m.d_in, values);
  });
}

}  // namespace cohort::cuda
