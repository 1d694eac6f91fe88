// Convolutions by cuDNN, channels-last; those of one place are dense layers. conv1d is the case of
// one line. Bias and ReLU are fused where cuDNN can; before a fused pool they wait until after it,
// as they keep order.
#include "device/cuda/dnn_graph.h"
#include "device/cuda/kernels_layers.h"
#include "device/cuda/products.h"

namespace cohort::cuda {
namespace {

constexpr i64 over_time = -1;

struct Conv {
  std::string layer;
  DType type = DType::f32;
  RowCount rows;
  i64 height = 1, width = 1, channels = 1, out_height = 1, out_width = 1, filters = 1;
  i64 kernel_h = 1, kernel_w = 1, groups = 1;
  ConvolutionShape shape;
  bool bias = true;
  Activation activation = Activation::none;
  i64 pool = 0;                 // 0: none
  Steps steps;                  // of the results, before a pool

  i64 places() const { return out_height * out_width; }
  i64 weights() const { return filters * kernel_h * kernel_w * channels / groups; }
  std::array<i64, 4> x() const { return {rows.rows, channels, height, width}; }
  std::array<i64, 4> w() const { return {filters, channels / groups, kernel_h, kernel_w}; }
  std::array<i64, 4> y() const { return {rows.rows, filters, out_height, out_width}; }
  i64 x_values() const { return rows.rows * height * width * channels; }
  i64 y_values() const { return rows.rows * places() * filters; }

  Vectors out() const {
    Vectors v{type, rows, places(), filters, steps, 1};
    if (pool == over_time) v.per_row = 1;
    if (pool > 0) v.per_row = (out_height / pool) * (out_width / pool);
    return v;
  }
  // One place seen by each result: a matrix product.
  bool is_dense() const {
    return kernel_h * kernel_w == 1 && shape.stride == 1 && shape.pad_h == 0 && groups == 1 &&
           pool == 0;
  }
  DenseShape dense() const { return {out(), channels, bias, activation}; }
  Windows windows() const {
    Windows w;
    w.type = type;
    w.rows = rows;
    w.height = static_cast<i32>(out_height);
    w.width = static_cast<i32>(out_width);
    w.channels = filters;
    w.out_height = static_cast<i32>(out_height / pool);
    w.out_width = static_cast<i32>(out_width / pool);
    w.size_y = w.size_x = w.stride = static_cast<i32>(pool);
    return w;
  }
  Sequences sequences() const { return {type, rows, steps, filters}; }
  i64 choice_size() const {
    if (pool == 0) return 0;
    return pool == over_time ? rows.rows * filters * size_of(DType::i32) : choice_bytes(windows());
  }
};

Conv conv_of(const Call& c, const Conv1d& op) {
  Conv v;
  v.layer = c.node->name;
  v.type = c.in[0].dtype;
  v.rows = rows_of(c);
  v.width = c.in[0].shape[1];
  v.channels = c.in[0].shape[2];
  v.out_width = v.width - op.width + 1;
  v.filters = op.filters;
  v.kernel_w = op.width;
  v.activation = op.activation;
  v.pool = op.max_over_time ? over_time : 0;
  v.steps = steps_of(c, 0);
  v.steps.capacity = static_cast<i32>(v.out_width);
  v.steps.shrink += static_cast<i32>(op.width - 1);
  return v;
}

Conv conv_of(const Call& c, const Conv2d& op) {
  Conv v;
  const Shape& in = c.in[0].shape;
  const auto extent = [&](i64 n) { return (n + 2 * op.padding - op.kernel) / op.stride + 1; };
  v.layer = c.node->name;
  v.type = c.in[0].dtype;
  v.rows = rows_of(c);
  v.height = in[1];
  v.width = in[2];
  v.channels = in[3];
  v.out_height = extent(in[1]);
  v.out_width = extent(in[2]);
  v.filters = op.filters;
  v.kernel_h = v.kernel_w = op.kernel;
  v.groups = op.groups;
  v.shape = {op.padding, op.padding, op.stride};
  v.bias = op.bias;
  v.activation = op.activation;
  v.pool = op.pool;
  return v;
}

// The tensors of one pass; the type of the one that it writes may be float32.
struct Operands {
  const void *x, *w, *y;
  DType out;
};
DnnGraph graph_of(Context& context, const Conv& v, ConvolutionPass pass, const Operands& o) {
  DnnGraph graph(context);
  const auto type = [&](ConvolutionPass written) { return pass == written ? o.out : v.type; };
  const int x = graph.tensor(type(ConvolutionPass::input), v.x(), o.x);
  const int w = graph.tensor(type(ConvolutionPass::weight), v.w(), o.w);
  const int y = graph.tensor(type(ConvolutionPass::forward), v.y(), o.y);
  graph.convolution(pass, v.shape, x, w, y);
  return graph;
}

DnnGraph plain(Context& context, const Conv& v, ConvolutionPass pass, const Operands& o) {
  DnnGraph graph = graph_of(context, v, pass, o);
  if (graph.build()) return graph;
  static constexpr const char* names[] = {"convolution", "input gradient", "weight gradient"};
  fail(Exit::usage, "layer {}: cuDNN {} has no {} of {} [{}, {}, {}, {}] by {} filters {}x{}, "
       "{} groups: {}; use channels and filters in multiples of 8, or another precision",
       v.layer, cudnnGetVersion(), names[static_cast<int>(pass)], name_of(v.type), v.rows.rows,
       v.height, v.width, v.channels, v.filters, v.kernel_h, v.kernel_w, v.groups, graph.why());
}

// Convolution, bias and ReLU in one; not built where cuDNN cannot.
DnnGraph fused(Context& context, const Conv& v, const Operands& o, const float* bias) {
  const bool relu = v.activation == Activation::relu;
  DnnGraph graph(context);
  const int x = graph.tensor(v.type, v.x(), o.x), w = graph.tensor(v.type, v.w(), o.w);
  int last = graph.tensor(DType::f32, v.y(), nullptr);
  graph.convolution(ConvolutionPass::forward, v.shape, x, w, last);
  if (bias) {
    const int b = graph.tensor(DType::f32, {1, v.filters, 1, 1}, bias);
    const int y = relu ? graph.tensor(DType::f32, v.y(), nullptr)
                       : graph.tensor(v.type, v.y(), o.y);
    graph.pointwise(CUDNN_POINTWISE_ADD, last, b, y);
    last = y;
  }
  if (relu)
    graph.pointwise(CUDNN_POINTWISE_RELU_FWD, last, -1, graph.tensor(v.type, v.y(), o.y));
  return graph;
}

struct Forward {
  Weights weights;
  DnnGraph graph;
  void *map, *out, *choice;
  const float* bias;
  Activation activation;        // bias and activation: what is left to do after the graph
};

Forward forward_of(Context& x, const Call& c, const Conv& v) {
  Carver saved(c.saved), scratch(c.scratch);
  const Weights weights(c, saved, 1);
  void* choice = saved.take(v.choice_size());
  void* out = c.out[0].data;
  void* map = v.pool ? scratch.take(v.y_values(), size_of(v.type)) : out;
  const float* bias = v.bias ? c.param[1].as<float>() : nullptr;
  const Operands o{c.in[0].data, weights.data[0], map, v.type};
  const bool relu = v.activation == Activation::relu;
  const bool fusable = v.pool == 0 && (relu || v.activation == Activation::none) && (bias || relu);
  if (fusable) {
    DnnGraph graph = fused(x, v, o, bias);
    if (graph.build())
      return {weights, std::move(graph), map, out, choice, nullptr, Activation::none};
  }
  return {weights, plain(x, v, ConvolutionPass::forward, o), map, out, choice, bias, v.activation};
}

std::unique_ptr<Kernel> convolve(Context& x, const Call& c, const Conv& v) {
  if (v.is_dense()) return dense_forward(x, c, v.dense());
  Forward f = forward_of(x, c, v);
  // As the input has them.
  const bool zeros = !v.bias && f.activation == Activation::none && !v.steps.lengths;
  return kernel([s = x.stream, f = std::move(f), v, zeros] {
    f.weights.cast(s);
    f.graph.run();
    if (v.pool > 0) max_pool_forward(s, v.windows(), f.map, f.out, f.choice);
    if (v.pool == over_time)
      max_over_time_forward(s, v.sequences(), f.map, f.out, static_cast<i32*>(f.choice));
    if (!zeros) finish_vectors(s, v.out(), f.out, f.bias, f.activation);
  });
}

// Memory of the backward pass.
struct Back {
  Weights weights;
  void* choice;
  BackOfVectors vectors;
  void* d_pooled;               // before the pool, if there is one
  void *d_weight, *d_in;        // where they are to be added

  Back(const Call& c, const Conv& v, Carver& saved, Carver& scratch)
      : weights(c, saved, 1),
        choice(saved.take(v.choice_size())),
        vectors(c, v.out(), v.activation, scratch),
        d_pooled(v.pool > 0 ? scratch.take(v.y_values(), size_of(v.type)) : nullptr),
        d_weight(v.pool == over_time ? nullptr : scratch.take<float>(v.weights())),
        d_in(v.pool == over_time ? nullptr : scratch.take(v.x_values(), size_of(v.type))) {
    vectors.want_dz(scratch.take(v.out().count() * v.filters, size_of(v.type)));
  }
  const void* dz() const { return vectors.dz; }   // of the results before the activation
  const void* d_map() const { return d_pooled ? d_pooled : dz(); }
};

struct WeightGradient {
  DnnGraph graph;
  DType type;
};
// Sums leave as float32 where cuDNN has kernels for that.
WeightGradient weight_gradient(Context& x, const Call& c, const Conv& v, const Back& back) {
  Operands o{c.in[0].data, back.d_weight, back.d_map(), DType::f32};
  if (v.type != DType::f32) {
    DnnGraph graph = graph_of(x, v, ConvolutionPass::weight, o);
    if (graph.build(true)) return {std::move(graph), DType::f32};
    o.out = v.type;
  }
  return {plain(x, v, ConvolutionPass::weight, o), o.out};
}

std::unique_ptr<Kernel> weights_back(Context& x, const Call& c, const Conv& v, const Back& back) {
  return kernel([s = x.stream, g = weight_gradient(x, c, v, back), from = back.d_weight,
                 to = c.d_param[0].data, count = v.weights()] {
    g.graph.run();
    add_values(s, DType::f32, to, g.type, from, count);
  });
}

std::unique_ptr<Kernel> input_back(Context& x, const Call& c, const Conv& v, const Back& back) {
  if (!c.d_in[0].data) return nothing();
  const bool add = c.accumulate[0];
  const Operands o{add ? back.d_in : c.d_in[0].data, back.weights.data[0], back.d_map(), v.type};
  return kernel([s = x.stream, graph = plain(x, v, ConvolutionPass::input, o), add,
                 to = c.d_in[0].data, from = back.d_in, type = v.type, count = v.x_values()] {
    graph.run();
    if (add) add_values(s, type, to, type, from, count);
  });
}

std::unique_ptr<Kernel> text_back(Context& x, const Call& c, const Conv& v, const Back& back) {
  Windowed w{v.type, v.rows.rows, v.width, v.channels, v.filters, v.kernel_w, back.dz(),
             static_cast<const i32*>(back.choice)};
  return kernel([s = x.stream, w, back, in = c.in[0].data, d_weight = c.d_param[0].as<float>(),
                 d_in = gradient_of(c, 0)] {
    back.vectors.run(s);
    windowed_weight_gradient(s, w, in, d_weight);
    if (d_in.data) windowed_input_gradient(s, w, back.weights.data[0], d_in);
  });
}

std::unique_ptr<Kernel> convolve_back(Context& x, const Call& c, const Conv& v) {
  if (v.is_dense()) return dense_backward(x, c, v.dense());
  Carver saved(c.saved), scratch(c.scratch);
  Back back(c, v, saved, scratch);
  if (v.bias) back.vectors.want_bias(x, c.d_param[1]);
  if (v.pool == over_time) return text_back(x, c, v, back);
  return kernel([s = x.stream, v, back, weights = weights_back(x, c, v, back),
                 input = input_back(x, c, v, back)] {
    back.vectors.run(s);
    if (v.pool > 0)
      max_pool_backward(s, v.windows(), back.dz(), back.choice, {back.d_pooled, false});
    weights->run();
    input->run();
  });
}

Needs needs_of(const Call& c, const Conv& v) {
  if (v.is_dense()) return dense_needs(c, v.dense());
  Needs needs;
  Carver saved{View{}}, scratch{View{}};
  if (c.pass == Pass::backward) {
    const Back back(c, v, saved, scratch);
  } else {
    const Weights weights(c, saved, 1);
    saved.take(v.choice_size());
    if (v.pool) scratch.take(v.y_values(), size_of(v.type));
  }
  needs.saved = saved.used();
  needs.scratch = scratch.used();
  return needs;
}

}  // namespace

Needs needs(const Context&, const Call& c, const Conv1d& op) { return needs_of(c, conv_of(c, op)); }
std::unique_ptr<Kernel> forward(Context& x, const Call& c, const Conv1d& op) {
  return convolve(x, c, conv_of(c, op));
}
std::unique_ptr<Kernel> backward(Context& x, const Call& c, const Conv1d& op) {
  return convolve_back(x, c, conv_of(c, op));
}

Needs needs(const Context&, const Call& c, const Conv2d& op) { return needs_of(c, conv_of(c, op)); }
std::unique_ptr<Kernel> forward(Context& x, const Call& c, const Conv2d& op) {
  return convolve(x, c, conv_of(c, op));
}
std::unique_ptr<Kernel> backward(Context& x, const Call& c, const Conv2d& op) {
  return convolve_back(x, c, conv_of(c, op));
}

}  // namespace cohort::cuda
