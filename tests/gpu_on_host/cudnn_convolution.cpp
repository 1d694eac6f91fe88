// Runs a compiled operation graph: convolutions as plain loops in float over tensors unpacked to
// channels-last (filters to K R S C), then the pointwise operations, then one rounding.
#include <algorithm>
#include <atomic>

#include "cudnn_graph.h"

namespace hg {
namespace {

using Floats = std::vector<float>;

std::size_t place(const Tensor& t, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
  return std::size_t(n * t.strides[0] + c * t.strides[1] + h * t.strides[2] + w * t.strides[3]);
}

// f(place in the tensor, place in its channels-last copy)
template <class F>
void each_element(const Tensor& t, F f) {
  std::size_t at = 0;
  for (std::int64_t n = 0; n < t.dims[0]; ++n) {
    for (std::int64_t h = 0; h < t.dims[2]; ++h) {
      for (std::int64_t w = 0; w < t.dims[3]; ++w) {
        for (std::int64_t c = 0; c < t.dims[1]; ++c) f(place(t, n, c, h, w), at++);
      }
    }
  }
}

Floats unpack(const Tensor& t, bool tf32) {
  Floats out(std::size_t(t.count()));
  each_element(t, [&](std::size_t from, std::size_t to) {
    const float value = load(t.type, t.data, from);
    out[to] = tf32 ? to_tf32(value) : value;
  });
  return out;
}

// One position of the filter over one output position of one image.
struct Tap {
  std::int64_t image, filter, output;  // first element of the channels at these places
};

template <class F>
void each_tap(const Operation& op, F f) {
  const auto &x = op.x.dims, &w = op.w.dims, &y = op.y.dims;
  for (std::int64_t n = 0; n < y[0]; ++n) {
    for (std::int64_t i = 0; i < y[2]; ++i) {
      for (std::int64_t j = 0; j < y[3]; ++j) {
        for (std::int64_t r = 0; r < w[2]; ++r) {
          const std::int64_t h = i * op.stride[0] + r * op.dilation[0] - op.pad[0];
          if (h < 0 || h >= x[2]) continue;
          for (std::int64_t s = 0; s < w[3]; ++s) {
            const std::int64_t v = j * op.stride[1] + s * op.dilation[1] - op.pad[1];
            if (v < 0 || v >= x[3]) continue;
            f(Tap{((n * x[2] + h) * x[3] + v) * x[1], (r * w[3] + s) * w[1],
                  ((n * y[2] + i) * y[3] + j) * y[1]});
          }
        }
      }
    }
  }
}

float dot(const float* a, const float* b, std::int64_t n) {
  float lanes[8] = {};
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int lane = 0; lane < 8; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  }
  float sum = 0;
  for (float lane : lanes) sum += lane;
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void add_scaled(float* to, const float* from, float factor, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] += factor * from[i];
}

// x, w or y is the one that is written, by the step.
void convolve(const Operation& op, float* x, float* w, float* y) {
  const std::int64_t inputs = op.w.dims[1], outputs = op.w.dims[0] / op.groups();
  const std::int64_t filter = op.w.dims[1] * op.w.dims[2] * op.w.dims[3];
  each_tap(op, [&](const Tap& tap) {
    for (std::int64_t k = 0; k < op.w.dims[0]; ++k) {
      float* const image = x + tap.image + k / outputs * inputs;
      float* const weights = w + tap.filter + k * filter;
      float& out = y[tap.output + k];
      if (op.step == Step::forward) out += dot(image, weights, inputs);
      if (op.step == Step::data) add_scaled(image, weights, out, inputs);
      if (op.step == Step::filter) add_scaled(weights, image, out, inputs);
    }
  });
}

// Sums in an order that changes from run to run end in another last bit.
void shake(Floats* values) {
  static std::atomic<unsigned> run{0};
  const float factor = ++run % 2 ? 1.0f + 2.4e-7f : 1.0f;
  for (float& value : *values) value *= factor;
}

Floats run_convolution(const Operation& op, Engine engine) {
  const bool tf32 = engine == Engine::tensor_core && op.x.type == Number::f32 &&
                    op.y.type == Number::f32 && op.w.type == Number::f32;
  const Tensor& out = op.output();
  auto operand = [&](const Tensor& t) {
    return &t == &out ? Floats(std::size_t(t.count())) : unpack(t, tf32);
  };
  Floats x = operand(op.x), w = operand(op.w), y = operand(op.y);
  convolve(op, x.data(), w.data(), y.data());
  Floats& result = op.step == Step::data ? x : op.step == Step::filter ? w : y;
  if (engine == Engine::any_order) shake(&result);
  if (op.beta != 0) {
    const Floats old = unpack(out, false);
    for (std::size_t i = 0; i < result.size(); ++i) result[i] += op.beta * old[i];
  }
  return result;
}

float apply(cudnnPointwiseMode_t mode, float x, float b) {
  switch (mode) {
    case CUDNN_POINTWISE_ADD:
      return x + b;
    case CUDNN_POINTWISE_MUL:
      return x * b;
    case CUDNN_POINTWISE_RELU_FWD:
      return x < 0 ? 0 : x;  // a NaN stays
    case CUDNN_POINTWISE_RELU_BWD:
      return x > 0 ? b : 0;
    default:
      return x;
  }
}

// The running value takes the place of x or of b.
void run_pointwise(const Operation& op, std::int64_t before, Floats* values) {
  const bool is_x = op.x.id == before;
  const Tensor& other = is_x ? op.w : op.x;
  const Floats second = other.dims.empty() ? Floats{0} : unpack(other, false);
  const auto channels = std::size_t(op.y.dims[1]);
  for (std::size_t i = 0; i < values->size(); ++i) {
    std::size_t at = i;
    if (second.size() == 1)
      at = 0;
    else if (second.size() == channels)
      at = i % channels;
    float& value = (*values)[i];
    value = is_x ? apply(op.mode, value, second[at]) : apply(op.mode, second[at], value);
  }
}

}  // namespace

void run_plan(const Plan& plan, void* workspace) {
  trash(workspace, kCudnnWorkspace);
  const auto& ops = plan.operations;
  Floats values = run_convolution(ops.front(), plan.engine);
  for (std::size_t i = 1; i < ops.size(); ++i) {
    run_pointwise(ops[i], ops[i - 1].output().id, &values);
  }
  const Tensor& out = ops.back().output();
  if (policy().wrong == "convolution") values[1] += 1;
  each_element(
      out, [&](std::size_t to, std::size_t from) { store(out.type, out.data, to, values[from]); });
}

}  // namespace hg
