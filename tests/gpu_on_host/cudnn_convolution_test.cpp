#include <memory>

#include "cudnn_test.h"

namespace hg::library_test {
namespace {

struct Geometry {
  std::int64_t n = 2, c = 8, h = 7, w = 6, k = 8, r = 3, s = 2, groups = 1;
  std::int64_t stride[2] = {2, 1}, pad[2] = {1, 1}, dilation[2] = {1, 2};
  Number type = Number::f32;
  bool channels_last = true;

  std::int64_t out(int i) const {
    const std::int64_t size = i ? w : h, filter = i ? s : r;
    return (size + 2 * pad[i] - dilation[i] * (filter - 1) - 1) / stride[i] + 1;
  }
  Dims x() const { return {n, c, h, w}; }
  Dims filter() const { return {k, c / groups, r, s}; }
  Dims y() const { return {n, k, out(0), out(1)}; }
};

std::size_t count(const Dims& d) { return std::size_t(d[0] * d[1] * d[2] * d[3]); }

std::size_t at(const Geometry& g, const Dims& d, std::int64_t n, std::int64_t c, std::int64_t h,
               std::int64_t w) {
  return std::size_t(g.channels_last ? ((n * d[2] + h) * d[3] + w) * d[1] + c
                                     : ((n * d[1] + c) * d[2] + h) * d[3] + w);
}

// f(place in x, place in the filter, place in y) for every product of the convolution.
template <class F>
void each_product(const Geometry& g, F f) {
  const std::int64_t inputs = g.c / g.groups, outputs = g.k / g.groups;
  for (std::int64_t n = 0; n < g.n; ++n)
    for (std::int64_t k = 0; k < g.k; ++k)
      for (std::int64_t i = 0; i < g.out(0); ++i)
        for (std::int64_t j = 0; j < g.out(1); ++j)
          for (std::int64_t q = 0; q < inputs; ++q)
            for (std::int64_t r = 0; r < g.r; ++r)
              for (std::int64_t s = 0; s < g.s; ++s) {
                const std::int64_t a = i * g.stride[0] + r * g.dilation[0] - g.pad[0];
                const std::int64_t b = j * g.stride[1] + s * g.dilation[1] - g.pad[1];
                if (a < 0 || b < 0 || a >= g.h || b >= g.w) continue;
                f(at(g, g.x(), n, k / outputs * inputs + q, a, b), at(g, g.filter(), k, q, r, s),
                  at(g, g.y(), n, k, i, j));
              }
}

enum class Kind { forward, data, filter };

// The convolution's descriptors and buffers; x is tensor 1, the filter 2, y 3.
struct Convolution {
  explicit Convolution(const Geometry& g, Kind kind, bool virtual_output = false, float beta = 0)
      : g(g),
        x_values(rounded(g.type, random_floats(count(g.x()), 1))),
        w_values(rounded(g.type, random_floats(count(g.filter()), 2))),
        y_values(rounded(g.type, random_floats(count(g.y()), 3))),
        x(pack(g.type, x_values)),
        w(pack(g.type, w_values)),
        y(pack(g.type, y_values)),
        x_desc(1, type(kind == Kind::data && virtual_output), g.x(),
               kind == Kind::data && virtual_output, g.channels_last),
        w_desc(2, type(kind == Kind::filter && virtual_output), g.filter(),
               kind == Kind::filter && virtual_output, g.channels_last),
        y_desc(3, type(kind == Kind::forward && virtual_output), g.y(),
               kind == Kind::forward && virtual_output, g.channels_last),
        operation(kind == Kind::forward ? CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR
                  : kind == Kind::data
                      ? CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR
                      : CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR) {
    desc.value(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    desc.value(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE,
               CUDNN_CROSS_CORRELATION);
    desc.ints(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, {2});
    desc.ints(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, {g.pad[0], g.pad[1]});
    desc.ints(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, {g.pad[0], g.pad[1]});
    desc.ints(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, {g.stride[0], g.stride[1]});
    desc.ints(CUDNN_ATTR_CONVOLUTION_DILATIONS, {g.dilation[0], g.dilation[1]});
    EXPECT_EQ(desc.finalize(), CUDNN_STATUS_SUCCESS);
    // The three operations number their attributes alike: alpha, beta, convolution, then tensors.
    const int base = kind == Kind::forward ? CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA
                     : kind == Kind::data  ? CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA
                                           : CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA;
    auto name = [=](int i) { return cudnnBackendAttributeName_t(base + i); };
    operation.value(name(0), CUDNN_TYPE_FLOAT, 1.0f).value(name(1), CUDNN_TYPE_FLOAT, beta);
    operation.refer(name(2), desc);
    operation.refer(name(3), w_desc);
    operation.refer(name(4), x_desc);
    operation.refer(name(5), y_desc);
    EXPECT_EQ(operation.finalize(), CUDNN_STATUS_SUCCESS) << last_error();
  }
  Number type(bool is_virtual) const { return is_virtual ? Number::f32 : g.type; }
  std::vector<void*> pointers() const { return {x.get(), w.get(), y.get()}; }

  std::vector<double> expected(Kind kind, double beta = 0) const {
    const auto& old = kind == Kind::forward ? y_values : kind == Kind::data ? x_values : w_values;
    std::vector<double> out;
    for (float value : old) out.push_back(beta * value);
    each_product(g, [&](std::size_t a, std::size_t b, std::size_t c) {
      if (kind == Kind::forward) out[c] += double(x_values[a]) * w_values[b];
      if (kind == Kind::data) out[a] += double(y_values[c]) * w_values[b];
      if (kind == Kind::filter) out[b] += double(y_values[c]) * x_values[a];
    });
    return out;
  }
  std::vector<float> result(Kind kind) const {
    const auto& buffer = kind == Kind::forward ? y : kind == Kind::data ? x : w;
    return unpack(g.type, buffer.values());
  }

  Geometry g;
  std::vector<float> x_values, w_values, y_values;
  Buffer<unsigned char> x, w, y;
  TensorDescriptor x_desc, w_desc, y_desc;
  Backend desc{CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR};
  Backend operation;
};

// y = mode(x, b), or dx = mode(dy = b, x)
std::unique_ptr<Backend> pointwise(cudnnPointwiseMode_t mode, const Backend& x, const Backend* b,
                                   const Backend& y, Backend* mode_desc) {
  mode_desc->value(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
  mode_desc->value(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  EXPECT_EQ(mode_desc->finalize(), CUDNN_STATUS_SUCCESS);
  auto op = std::make_unique<Backend>(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  const bool gradient = mode == CUDNN_POINTWISE_RELU_BWD;
  op->refer(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, *mode_desc);
  op->refer(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
  op->refer(gradient ? CUDNN_ATTR_OPERATION_POINTWISE_DXDESC : CUDNN_ATTR_OPERATION_POINTWISE_YDESC,
            y);
  if (b) {
    op->refer(
        gradient ? CUDNN_ATTR_OPERATION_POINTWISE_DYDESC : CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
        *b);
  }
  EXPECT_EQ(op->finalize(), CUDNN_STATUS_SUCCESS) << last_error();
  return op;
}

class GpuOnHostCudnn : public ::testing::Test {
 protected:
  Buffer<unsigned char> workspace{4096};
};

TEST_F(GpuOnHostCudnn, EveryConvolutionAlone) {
  std::vector<Geometry> geometries(4);
  geometries[1].groups = 4;
  geometries[1].type = Number::bf16;
  geometries[2].c = 3;
  geometries[2].k = 5;
  geometries[2].type = Number::f16;
  geometries[3].channels_last = false;
  for (const Geometry& g : geometries) {
    for (Kind kind : {Kind::forward, Kind::data, Kind::filter}) {
      Convolution c(g, kind, false, 1.0f);
      GraphRun run;
      ASSERT_EQ(run.build({&c.operation}), CUDNN_STATUS_SUCCESS) << last_error();
      ASSERT_EQ(run.run(run.engines() - 1, {1, 2, 3}, c.pointers(), workspace.get()),
                CUDNN_STATUS_SUCCESS)
          << last_error();
      expect_near(c.result(kind), c.expected(kind, 1.0), tolerance(g.type));
      EXPECT_EQ(workspace.values(), std::vector<unsigned char>(4096, 0xff));
    }
  }
}

TEST_F(GpuOnHostCudnn, BiasAndReluBehindAConvolution) {
  for (Number type : {Number::f32, Number::bf16}) {
    Geometry g;
    g.type = type;
    const Convolution c(g, Kind::forward, true);
    const std::vector<float> bias_values = random_floats(8, 5);
    const Buffer<float> bias(bias_values);
    const TensorDescriptor bias_desc(4, Number::f32, {1, 8, 1, 1});
    const TensorDescriptor sum(5, Number::f32, g.y(), true), out(6, type, g.y());
    Backend add_mode(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    Backend relu_mode(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    const auto add = pointwise(CUDNN_POINTWISE_ADD, c.y_desc, &bias_desc, sum, &add_mode);
    const auto relu = pointwise(CUDNN_POINTWISE_RELU_FWD, sum, nullptr, out, &relu_mode);
    GraphRun run;
    ASSERT_EQ(run.build({&c.operation, add.get(), relu.get()}), CUDNN_STATUS_SUCCESS)
        << last_error();
    ASSERT_EQ(run.run(run.engines() - 1, {1, 2, 4, 6},
                      {c.x.get(), c.w.get(), bias.get(), c.y.get()}, workspace.get()),
              CUDNN_STATUS_SUCCESS)
        << last_error();
    std::vector<double> expected = c.expected(Kind::forward);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      expected[i] = std::max(expected[i] + bias_values[i % 8], 0.0);
    }
    expect_near(c.result(Kind::forward), expected, tolerance(type));
  }
}

TEST_F(GpuOnHostCudnn, ReluGradientBehindADataGradient) {
  const Geometry g;
  const Convolution c(g, Kind::data, true);
  const std::vector<float> passed = random_floats(count(g.x()), 8);
  const Buffer<float> input(passed);
  const TensorDescriptor input_desc(4, Number::f32, g.x()), out(5, Number::f32, g.x());
  Backend mode(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  const auto relu = pointwise(CUDNN_POINTWISE_RELU_BWD, input_desc, &c.x_desc, out, &mode);
  GraphRun run;
  ASSERT_EQ(run.build({&c.operation, relu.get()}), CUDNN_STATUS_SUCCESS) << last_error();
  ASSERT_EQ(
      run.run(2, {2, 3, 4, 5}, {c.w.get(), c.y.get(), input.get(), c.x.get()}, workspace.get()),
      CUDNN_STATUS_SUCCESS)
      << last_error();
  std::vector<double> expected = c.expected(Kind::data);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (passed[i] <= 0) expected[i] = 0;
  }
  expect_near(c.result(Kind::data), expected, 1e-5);
}

TEST_F(GpuOnHostCudnn, EnginesTellWhatTheyCost) {
  const Convolution c(Geometry{}, Kind::filter);
  GraphRun run;
  ASSERT_EQ(run.build({&c.operation}), CUDNN_STATUS_SUCCESS);
  ASSERT_EQ(run.engines(), 3);
  auto notes = [&](std::size_t rank) {
    std::vector<std::unique_ptr<Backend>> configs;
    std::vector<cudnnBackendDescriptor_t> handles;
    for (int i = 0; i < 3; ++i) {
      configs.push_back(std::make_unique<Backend>(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
      handles.push_back(configs.back()->get());
    }
    std::int64_t count = 0;
    cudnnBackendGetAttribute(run.heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                             CUDNN_TYPE_BACKEND_DESCRIPTOR, 3, &count, handles.data());
    const Backend engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    cudnnBackendDescriptor_t handle = engine.get();
    EXPECT_EQ(cudnnBackendGetAttribute(handles[rank], CUDNN_ATTR_ENGINECFG_ENGINE,
                                       CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &handle),
              CUDNN_STATUS_SUCCESS);
    std::vector<cudnnBackendNumericalNote_t> out(CUDNN_NUMERICAL_NOTE_TYPE_COUNT);
    EXPECT_EQ(cudnnBackendGetAttribute(handle, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                       CUDNN_TYPE_NUMERICAL_NOTE, std::int64_t(out.size()), &count,
                                       out.data()),
              CUDNN_STATUS_SUCCESS);
    out.resize(std::size_t(count));
    return out;
  };
  using Notes = std::vector<cudnnBackendNumericalNote_t>;
  EXPECT_EQ(notes(0), Notes{CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC});
  EXPECT_EQ(notes(1), Notes{CUDNN_NUMERICAL_NOTE_TENSOR_CORE});
  EXPECT_EQ(notes(2), Notes{});
  auto result = [&](std::int64_t rank) {
    EXPECT_EQ(run.run(rank, {1, 2, 3}, c.pointers(), workspace.get()), CUDNN_STATUS_SUCCESS);
    return c.result(Kind::filter);
  };
  EXPECT_NE(result(0), result(0));
  EXPECT_EQ(result(1), result(1));
  EXPECT_NE(result(1), result(2));
  EXPECT_EQ(result(2), result(2));
}

TEST_F(GpuOnHostCudnn, RefusesGraphsBeyondTheSupportSurface) {
  auto status = [](const Geometry& g, cudnnPointwiseMode_t mode) {
    const Convolution c(g, Kind::forward, true);
    const TensorDescriptor out(5, g.type, g.y());
    Backend mode_desc(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    const auto op = pointwise(mode, c.y_desc, nullptr, out, &mode_desc);
    GraphRun run;
    return run.build({&c.operation, op.get()});
  };
  Geometry g;
  EXPECT_EQ(status(g, CUDNN_POINTWISE_RELU_FWD), CUDNN_STATUS_SUCCESS);
  EXPECT_EQ(status(g, CUDNN_POINTWISE_TANH_FWD), CUDNN_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(status(g, CUDNN_POINTWISE_ADD), CUDNN_STATUS_BAD_PARAM);
  g.c = 6;
  EXPECT_EQ(status(g, CUDNN_POINTWISE_RELU_FWD), CUDNN_STATUS_NOT_SUPPORTED_SHAPE);
  g.c = 8;
  g.groups = 2;
  EXPECT_EQ(status(g, CUDNN_POINTWISE_RELU_FWD), CUDNN_STATUS_NOT_SUPPORTED);
  g.groups = 1;
  g.channels_last = false;
  EXPECT_EQ(status(g, CUDNN_POINTWISE_RELU_FWD), CUDNN_STATUS_NOT_SUPPORTED_LAYOUT);
  // A virtual output that nothing takes, and two convolutions.
  const Convolution lost(Geometry{}, Kind::forward, true), c(Geometry{}, Kind::forward);
  GraphRun first, second;
  EXPECT_EQ(first.build({&lost.operation}), CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN);
  EXPECT_EQ(second.build({&c.operation, &c.operation}), CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN);
  EXPECT_NE(last_error(), "");
}

TEST_F(GpuOnHostCudnn, RefusesIncompleteDescriptors) {
  Backend tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  tensor.value(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  EXPECT_EQ(tensor.finalize(), CUDNN_STATUS_BAD_PARAM);
  const float one = 1;
  EXPECT_EQ(cudnnBackendSetAttribute(tensor.get(), CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_FLOAT, 1,
                                     &one),
            CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE);
  EXPECT_EQ(
      cudnnBackendSetAttribute(tensor.get(), CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_FLOAT, 1, &one),
      CUDNN_STATUS_NOT_SUPPORTED);
  cudnnBackendDescriptor_t unknown;
  EXPECT_EQ(cudnnBackendCreateDescriptor(CUDNN_BACKEND_OPERATION_CONCAT_DESCRIPTOR, &unknown),
            CUDNN_STATUS_NOT_SUPPORTED);
  Backend graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  Backend op(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  graph.refer(CUDNN_ATTR_OPERATIONGRAPH_OPS, op);
  EXPECT_EQ(graph.finalize(), CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED);
}

TEST_F(GpuOnHostCudnn, RefusesPointers) {
  const Convolution c(Geometry{}, Kind::forward);
  GraphRun run;
  ASSERT_EQ(run.build({&c.operation}), CUDNN_STATUS_SUCCESS);
  auto status = [&](const std::vector<std::int64_t>& ids, const std::vector<void*>& pointers,
                    void* space) { return run.run(0, ids, pointers, space); };
  void* const space = workspace.get();
  EXPECT_EQ(status({1, 2, 3}, c.pointers(), space), CUDNN_STATUS_SUCCESS);
  EXPECT_EQ(status({1, 2}, {c.x.get(), c.w.get()}, space), CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(status({1, 2, 3}, {c.x.get(), c.w.get(), c.x.get()}, space), CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(status({1, 2, 3}, {c.x.get(), c.w.get(), c.w.get() + 16}, space),
            CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(status({1, 2, 3}, c.pointers(), workspace.get() + 1), CUDNN_STATUS_BAD_PARAM);
  const Buffer<unsigned char> odd(std::vector<unsigned char>(c.x.bytes()), 4);
  EXPECT_EQ(status({1, 2, 3}, {odd.get(), c.w.get(), c.y.get()}, space),
            CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER);
}

}  // namespace
}  // namespace hg::library_test
