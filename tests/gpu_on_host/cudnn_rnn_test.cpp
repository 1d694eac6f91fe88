#include <functional>

#include "cudnn_rnn_reference.h"

namespace hg::library_test {
namespace {

// A layer of the stand-in with the same values.
class Layer {
 public:
  explicit Layer(const Shape& s, bool padded_io = true) : s(s) {
    EXPECT_EQ(cudnnCreate(&handle), CUDNN_STATUS_SUCCESS);
    EXPECT_EQ(cudnnSetStream(handle, stream), CUDNN_STATUS_SUCCESS);
    cudnnCreateDropoutDescriptor(&dropout);
    EXPECT_EQ(cudnnSetDropoutDescriptor(dropout, handle, 0, nullptr, 0, 0), CUDNN_STATUS_SUCCESS);
    cudnnCreateRNNDescriptor(&rnn);
    EXPECT_EQ(set(s.algorithm, CUDNN_LINEAR_INPUT, padded_io), CUDNN_STATUS_SUCCESS)
        << last_error();
    cudnnCreateRNNDataDescriptor(&x_desc);
    cudnnCreateRNNDataDescriptor(&y_desc);
    const auto layout = s.sequence_major ? CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED
                                         : CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED;
    std::vector<unsigned char> fill = pack(s.type, {7});
    cudnnSetRNNDataDescriptor(x_desc, cudnn_type(s.type), layout, kSteps, s.batch(), kInput,
                              s.lengths.data(), nullptr);
    cudnnSetRNNDataDescriptor(y_desc, cudnn_type(s.type), layout, kSteps, s.batch(), kHidden,
                              s.lengths.data(), fill.data());
    cudnnCreateTensorDescriptor(&state);
    const int dims[] = {1, s.batch(), kHidden}, strides[] = {s.batch() * kHidden, kHidden, 1};
    EXPECT_EQ(cudnnSetTensorNdDescriptor(state, cudnn_type(s.type), 3, dims, strides),
              CUDNN_STATUS_SUCCESS);
    cudnnGetRNNWeightSpaceSize(handle, rnn, &weight_bytes);
    cudnnGetRNNTempSpaceSizes(handle, rnn, CUDNN_FWD_MODE_TRAINING, x_desc, &workspace_bytes,
                              &reserve_bytes);
    workspace = std::make_unique<Buffer<unsigned char>>(workspace_bytes);
    reserve = std::make_unique<Buffer<unsigned char>>(reserve_bytes);
  }
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;
  ~Layer() {
    cudnnDestroyTensorDescriptor(state);
    cudnnDestroyRNNDataDescriptor(y_desc);
    cudnnDestroyRNNDataDescriptor(x_desc);
    cudnnDestroyRNNDescriptor(rnn);
    cudnnDestroyDropoutDescriptor(dropout);
    cudnnDestroy(handle);
  }
  cudnnStatus_t set(cudnnRNNAlgo_t algorithm, cudnnRNNInputMode_t input, bool padded_io = true) {
    return cudnnSetRNNDescriptor_v8(rnn, algorithm, s.mode, s.bias, CUDNN_UNIDIRECTIONAL, input,
                                    cudnn_type(s.type), CUDNN_DATA_FLOAT, s.math, kInput, kHidden,
                                    kHidden, 1, dropout,
                                    padded_io ? CUDNN_RNN_PADDED_IO_ENABLED : 0u);
  }
  // f(element of the weight space, the value it stands for) by the addresses that cuDNN tells.
  void each_weight(Values& v, const std::function<void(std::size_t, double&)>& f) const {
    cudnnTensorDescriptor_t matrix, bias;
    cudnnCreateTensorDescriptor(&matrix);
    cudnnCreateTensorDescriptor(&bias);
    const std::size_t width = bytes_of(s.type);
    char* const base = reinterpret_cast<char*>(std::uintptr_t(1) << 20);
    for (int linear = 0; linear < 2 * s.gates(); ++linear) {
      void *matrix_at, *bias_at;
      ASSERT_EQ(cudnnGetRNNWeightParams(handle, rnn, 0, weight_bytes, base, linear, matrix,
                                        &matrix_at, bias, &bias_at),
                CUDNN_STATUS_SUCCESS);
      const bool recurrent = linear >= s.gates();
      const int gate = linear % s.gates();
      cudnnDataType_t type;
      int count, dims[3], strides[3];
      cudnnGetTensorNdDescriptor(matrix, 3, &type, &count, dims, strides);
      ASSERT_EQ(dims[1], kHidden);
      ASSERT_EQ(dims[2], recurrent ? kHidden : kInput);
      const auto from = std::size_t(static_cast<char*>(matrix_at) - base) / width;
      const int size = kHidden * dims[2];
      for (int i = 0; i < size; ++i) {
        f(from + std::size_t(i), (recurrent ? v.r : v.w)[std::size_t(gate * size + i)]);
      }
      if (!bias_at) continue;
      const auto bias_from = std::size_t(static_cast<char*>(bias_at) - base) / width;
      for (int i = 0; i < kHidden; ++i) {
        f(bias_from + std::size_t(i), (recurrent ? v.br : v.bw)[std::size_t(gate * kHidden + i)]);
      }
    }
    cudnnDestroyTensorDescriptor(bias);
    cudnnDestroyTensorDescriptor(matrix);
  }
  // Time-major values in the layout of the data, with a filler where sequences have ended.
  std::vector<float> lay_out(const Doubles& values, int width, float filler) const {
    std::vector<float> out(values.size(), filler);
    for (int b = 0; b < s.batch(); ++b) {
      for (int t = 0; t < s.lengths[std::size_t(b)]; ++t) {
        const int at = s.sequence_major ? t * s.batch() + b : b * kSteps + t;
        for (int i = 0; i < width; ++i) {
          out[std::size_t(at * width + i)] =
              float(values[std::size_t((t * s.batch() + b) * width + i)]);
        }
      }
    }
    return out;
  }

  Shape s;
  Stream stream;
  cudnnHandle_t handle = nullptr;
  cudnnDropoutDescriptor_t dropout = nullptr;
  cudnnRNNDescriptor_t rnn = nullptr;
  cudnnRNNDataDescriptor_t x_desc = nullptr, y_desc = nullptr;
  cudnnTensorDescriptor_t state = nullptr;
  std::size_t weight_bytes = 0, workspace_bytes = 0, reserve_bytes = 0;
  std::unique_ptr<Buffer<unsigned char>> workspace, reserve;
};

Doubles doubles(Number type, std::size_t count, unsigned seed) {
  const std::vector<float> values = rounded(type, random_floats(count, seed, 0.7f));
  return Doubles(values.begin(), values.end());
}

Values random_values(const Shape& s) {
  const auto rows = std::size_t(s.gates() * kHidden), batch = s.lengths.size();
  Values v{doubles(s.type, kSteps * batch * kInput, 1),
           doubles(s.type, batch * kHidden, 2),
           doubles(s.type, batch * kHidden, 3),
           doubles(s.type, rows * kInput, 4),
           doubles(s.type, rows * kHidden, 5),
           doubles(s.type, rows, 6),
           doubles(s.type, rows, 7)};
  if (s.mode != CUDNN_LSTM) v.cx.assign(v.cx.size(), 0);
  if (s.bias == CUDNN_RNN_NO_BIAS) v.bw.assign(rows, 0);
  if (s.bias != CUDNN_RNN_DOUBLE_BIAS) v.br.assign(rows, 0);
  return v;
}

std::vector<float> floats(const Doubles& v) { return std::vector<float>(v.begin(), v.end()); }

// A layer with its buffers, run forward and backward.
struct Passes {
  explicit Passes(const Shape& s, bool padded_io = true)
      : layer(s, padded_io),
        v(random_values(s)),
        x(pack(s.type, layer.lay_out(v.x, kInput, NAN))),
        y(std::size_t(kSteps * s.batch() * kHidden) * bytes_of(s.type)),
        hx(pack(s.type, floats(v.hx))),
        cx(pack(s.type, floats(v.cx))),
        hy(hx.bytes()),
        cy(hx.bytes()),
        weights(layer.weight_bytes) {
    std::vector<float> space(layer.weight_bytes / bytes_of(s.type), NAN);
    layer.each_weight(v, [&](std::size_t at, double& value) { space[at] = float(value); });
    for (float value : space) EXPECT_FALSE(std::isnan(value));
    weights.set(pack(s.type, space));
  }
  bool lstm() const { return layer.s.mode == CUDNN_LSTM; }
  void* cell(const Buffer<unsigned char>& buffer) const { return lstm() ? buffer.get() : nullptr; }

  cudnnStatus_t forward(cudnnForwardMode_t mode = CUDNN_FWD_MODE_TRAINING) {
    const bool training = mode == CUDNN_FWD_MODE_TRAINING;
    const auto status = cudnnRNNForward(
        layer.handle, layer.rnn, mode, nullptr, layer.x_desc, x.get(), layer.y_desc, y.get(),
        layer.state, hx.get(), hy.get(), layer.state, cell(cx), cell(cy), layer.weight_bytes,
        weights.get(), layer.workspace_bytes, layer.workspace->get(),
        training ? layer.reserve_bytes : 0, training ? layer.reserve->get() : nullptr);
    layer.stream.wait();
    return status;
  }
  cudnnStatus_t backward_data(const Buffer<unsigned char>& dy, const Buffer<unsigned char>& dhy,
                              const Buffer<unsigned char>& dcy, const Buffer<unsigned char>& dx,
                              const Buffer<unsigned char>& dhx, const Buffer<unsigned char>& dcx) {
    const auto status = cudnnRNNBackwardData_v8(
        layer.handle, layer.rnn, nullptr, layer.y_desc, y.get(), dy.get(), layer.x_desc, dx.get(),
        layer.state, hx.get(), dhy.get(), dhx.get(), layer.state, cell(cx), cell(dcy), cell(dcx),
        layer.weight_bytes, weights.get(), layer.workspace_bytes, layer.workspace->get(),
        layer.reserve_bytes, layer.reserve->get());
    layer.stream.wait();
    return status;
  }
  cudnnStatus_t backward_weights(const Buffer<unsigned char>& dweights,
                                 cudnnWgradMode_t mode = CUDNN_WGRAD_MODE_ADD) {
    const auto status = cudnnRNNBackwardWeights_v8(
        layer.handle, layer.rnn, mode, nullptr, layer.x_desc, x.get(), layer.state, hx.get(),
        layer.y_desc, y.get(), layer.weight_bytes, dweights.get(), layer.workspace_bytes,
        layer.workspace->get(), layer.reserve_bytes, layer.reserve->get());
    layer.stream.wait();
    return status;
  }

  Layer layer;
  Values v;
  Buffer<unsigned char> x, y, hx, cx, hy, cy, weights;
};

std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (auto mode : {CUDNN_LSTM, CUDNN_GRU, CUDNN_RNN_TANH, CUDNN_RNN_RELU}) {
    for (auto bias : {CUDNN_RNN_NO_BIAS, CUDNN_RNN_SINGLE_INP_BIAS, CUDNN_RNN_DOUBLE_BIAS}) {
      Shape s;
      s.mode = mode;
      s.bias = bias;
      s.sequence_major = bias != CUDNN_RNN_DOUBLE_BIAS;
      all.push_back(s);
    }
  }
  return all;
}

TEST(GpuOnHostCudnnRnn, ForwardEqualsPlainLoops) {
  for (Number type : {Number::f32, Number::bf16, Number::f16}) {
    for (Shape s : shapes()) {
      s.type = type;
      Passes run(s);
      const Outputs expected = reference(s, run.v);
      for (auto mode : {CUDNN_FWD_MODE_INFERENCE, CUDNN_FWD_MODE_TRAINING}) {
        ASSERT_EQ(run.forward(mode), CUDNN_STATUS_SUCCESS) << last_error();
        const std::vector<float> y = run.layer.lay_out(expected.y, kHidden, 7);
        expect_near(unpack(type, run.y.values()), Doubles(y.begin(), y.end()), tolerance(type));
        expect_near(unpack(type, run.hy.values()), expected.hy, tolerance(type));
        if (run.lstm()) expect_near(unpack(type, run.cy.values()), expected.cy, tolerance(type));
      }
    }
  }
}

// Gradients of the sum of all outputs, each times a factor, by central differences.
TEST(GpuOnHostCudnnRnn, GradientsEqualDifferences) {
  for (const Shape& s : shapes()) {
    Passes run(s);
    const Doubles fy = doubles(s.type, run.y.bytes() / 4, 11);
    const Doubles fh = doubles(s.type, run.hx.bytes() / 4, 12);
    const Doubles fc = doubles(s.type, run.hx.bytes() / 4, 13);
    const Buffer<unsigned char> dy(pack(s.type, run.layer.lay_out(fy, kHidden, NAN)));
    const Buffer<unsigned char> dhy(pack(s.type, floats(fh))), dcy(pack(s.type, floats(fc)));
    const Buffer<unsigned char> dx(run.x.bytes()), dhx(run.hx.bytes()), dcx(run.hx.bytes());
    const std::vector<float> old = random_floats(run.weights.bytes() / 4, 14);
    const Buffer<unsigned char> dweights(pack(s.type, old));
    ASSERT_EQ(run.forward(), CUDNN_STATUS_SUCCESS);
    ASSERT_EQ(run.backward_data(dy, dhy, dcy, dx, dhx, dcx), CUDNN_STATUS_SUCCESS) << last_error();
    ASSERT_EQ(run.backward_weights(dweights), CUDNN_STATUS_SUCCESS) << last_error();
    Values v = run.v;
    auto loss = [&] {
      const Outputs out = reference(s, v);
      double sum = 0;
      for (std::size_t i = 0; i < fy.size(); ++i) sum += out.y[i] * fy[i];
      for (std::size_t i = 0; i < fh.size(); ++i) sum += out.hy[i] * fh[i];
      for (std::size_t i = 0; run.lstm() && i < fc.size(); ++i) sum += out.cy[i] * fc[i];
      return sum;
    };
    auto slope = [&](double& value) {
      const double kept = value, step = 1e-5;
      value = kept + step;
      const double above = loss();
      value = kept - step;
      const double below = loss();
      value = kept;
      return (above - below) / (2 * step);
    };
    auto slopes = [&](Doubles& values) {
      Doubles out;
      for (double& value : values) out.push_back(slope(value));
      return out;
    };
    auto got = [](const Buffer<unsigned char>& b) { return unpack(Number::f32, b.values()); };
    // The padding of dx is undefined: NaN.
    const std::vector<float> dx_expected = run.layer.lay_out(slopes(v.x), kInput, NAN);
    const std::vector<float> dx_got = got(dx);
    for (std::size_t i = 0; i < dx_got.size(); ++i) {
      if (std::isnan(dx_expected[i]))
        EXPECT_TRUE(std::isnan(dx_got[i]));
      else
        EXPECT_NEAR(dx_got[i], dx_expected[i], 1e-5) << i;
    }
    expect_near(got(dhx), slopes(v.hx), 1e-5);
    if (run.lstm()) expect_near(got(dcx), slopes(v.cx), 1e-5);
    Doubles weight_slopes(old.begin(), old.end());  // the gradients are added
    run.layer.each_weight(v, [&](std::size_t at, double& w) { weight_slopes[at] += slope(w); });
    expect_near(got(dweights), weight_slopes, 1e-5);
  }
}

TEST(GpuOnHostCudnnRnn, DefaultMathRoundsToTf32) {
  Shape s;
  Passes exact(s);
  s.math = CUDNN_DEFAULT_MATH;
  Passes quick(s);
  ASSERT_EQ(exact.forward(), CUDNN_STATUS_SUCCESS);
  ASSERT_EQ(quick.forward(), CUDNN_STATUS_SUCCESS);
  const std::vector<float> hy = unpack(Number::f32, quick.hy.values());
  EXPECT_NE(hy, unpack(Number::f32, exact.hy.values()));
  expect_near(hy, reference(s, quick.v).hy, 2e-3);
}

TEST(GpuOnHostCudnnRnn, Refuses) {
  Passes run{Shape{}};
  Layer& layer = run.layer;
  EXPECT_EQ(layer.set(CUDNN_RNN_ALGO_PERSIST_DYNAMIC, CUDNN_LINEAR_INPUT),
            CUDNN_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(layer.set(CUDNN_RNN_ALGO_STANDARD, CUDNN_SKIP_INPUT), CUDNN_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(cudnnSetDropoutDescriptor(layer.dropout, layer.handle, 0.5f, nullptr, 0, 0),
            CUDNN_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(run.backward_weights(run.weights, CUDNN_WGRAD_MODE_SET), CUDNN_STATUS_NOT_SUPPORTED);
  layer.workspace_bytes -= 1;
  EXPECT_EQ(run.forward(), CUDNN_STATUS_BAD_PARAM);
  layer.workspace_bytes += 1;
  layer.reserve_bytes -= 1;
  EXPECT_EQ(run.forward(), CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(run.forward(CUDNN_FWD_MODE_INFERENCE), CUDNN_STATUS_SUCCESS);
  layer.reserve_bytes += 1;
  // The persistent algorithm takes equal lengths only.
  ASSERT_EQ(layer.set(CUDNN_RNN_ALGO_PERSIST_STATIC, CUDNN_LINEAR_INPUT), CUDNN_STATUS_SUCCESS);
  EXPECT_EQ(run.forward(), CUDNN_STATUS_NOT_SUPPORTED);
  Shape even;
  even.lengths = {4, 4};
  even.algorithm = CUDNN_RNN_ALGO_PERSIST_STATIC;
  Passes persistent(even);
  EXPECT_EQ(persistent.forward(), CUDNN_STATUS_SUCCESS) << last_error();
  Passes unpadded(Shape{}, false);
  EXPECT_EQ(unpadded.forward(), CUDNN_STATUS_BAD_PARAM);
}

TEST(GpuOnHostCudnnRnnDeathTest, ReserveSpaceMustBeForwards) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  auto weights_first = [] {
    Passes run{Shape{}};
    run.forward();
    run.backward_weights(run.weights);
  };
  EXPECT_DEATH(weights_first(), "before cudnnRNNBackwardData_v8");
  auto no_forward = [] {
    Passes run{Shape{}};
    run.backward_data(run.y, run.hx, run.cx, run.x, run.hy, run.cy);
  };
  EXPECT_DEATH(no_forward(), "not that of a forward call in training mode");
  auto overwritten = [] {
    Passes run{Shape{}};
    run.forward();
    std::vector<unsigned char> bytes = run.layer.reserve->values();
    bytes[64] ^= 1;
    run.layer.reserve->set(bytes);
    run.backward_data(run.y, run.hx, run.cx, run.x, run.hy, run.cy);
  };
  EXPECT_DEATH(overwritten(), "written to since forward");
}

}  // namespace
}  // namespace hg::library_test
