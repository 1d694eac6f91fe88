#include "device/cuda/kernels_layers.h"
#include "device/cuda/ops.h"

namespace cohort::cuda {

namespace {

Windows images_of(const Call& c) {
  Windows w;
  const Shape& in = c.in[0].shape;
  w.type = c.in[0].dtype;
  w.rows = rows_of(c);
  w.height = static_cast<i32>(in[1]);
  w.width = static_cast<i32>(in[2]);
  w.channels = in[3];
  return w;
}

Windows windows_of(const Call& c, i64 size, i64 stride, i64 padding) {
  Windows w = images_of(c);
  w.out_height = static_cast<i32>(c.out[0].shape[1]);
  w.out_width = static_cast<i32>(c.out[0].shape[2]);
  w.size_y = w.size_x = static_cast<i32>(size);
  w.stride = static_cast<i32>(stride);
  w.padding = static_cast<i32>(padding);
  return w;
}
Windows windows_of(const Call& c, const MaxPool2d& op) {
  return windows_of(c, op.size, op.stride, op.padding);
}
Windows windows_of(const Call& c, const AvgPool2d& op) {
  return windows_of(c, op.size, op.stride, 0);
}
// The whole image is one window.
Windows windows_of(const Call& c, const GlobalAvgPool&) {
  Windows w = images_of(c);
  w.size_y = w.height;
  w.size_x = w.width;
  return w;
}

template <class Pool>
std::unique_ptr<Kernel> average_forward(Context& x, const Call& c, const Pool& op) {
  return kernel([s = x.stream, w = windows_of(c, op), in = c.in[0].data, out = c.out[0].data] {
    average_pool_forward(s, w, in, out);
  });
}
template <class Pool>
std::unique_ptr<Kernel> average_backward(Context& x, const Call& c, const Pool& op) {
  if (!c.d_in[0].data) return nothing();
  return kernel([s = x.stream, w = windows_of(c, op), d_out = c.d_out[0].data,
                 d_in = gradient_of(c, 0)] { average_pool_backward(s, w, d_out, d_in); });
}

}  // namespace

Needs needs(const Context&, const Call& c, const MaxPool2d& op) {
  Needs needs;
  needs.saved = choice_bytes(windows_of(c, op));
  return needs;
}
std::unique_ptr<Kernel> forward(Context& x, const Call& c, const MaxPool2d& op) {
  return kernel([s = x.stream, w = windows_of(c, op), in = c.in[0].data, out = c.out[0].data,
                 choice = c.saved.data] { max_pool_forward(s, w, in, out, choice); });
}
std::unique_ptr<Kernel> backward(Context& x, const Call& c, const MaxPool2d& op) {
  if (!c.d_in[0].data) return nothing();
  return kernel([s = x.stream, w = windows_of(c, op), d_out = c.d_out[0].data,
                 choice = c.saved.data, d_in = gradient_of(c, 0)] {
    max_pool_backward(s, w, d_out, choice, d_in);
  });
}

Needs needs(const Context&, const Call&, const AvgPool2d&) { return {}; }
std::unique_ptr<Kernel> forward(Context& x, const Call& c, const AvgPool2d& op) {
  return average_forward(x, c, op);
}
std::unique_ptr<Kernel> backward(Context& x, const Call& c, const AvgPool2d& op) {
  return average_backward(x, c, op);
}

Needs needs(const Context&, const Call&, const GlobalAvgPool&) { return {}; }
std::unique_ptr<Kernel> forward(Context& x, const Call& c, const GlobalAvgPool& op) {
  return average_forward(x, c, op);
}
std::unique_ptr<Kernel> backward(Context& x, const Call& c, const GlobalAvgPool& op) {
  return average_backward(x, c, op);
}

namespace {

Sequences sequences_of(const Call& c) {
  return {c.in[0].dtype, rows_of(c), steps_of(c, 0), last(c.in[0].shape)};
}

}  // namespace

Needs needs(const Context&, const Call& c, const MaxOverTime&) {
  Needs needs;
  needs.saved = c.rows * last(c.in[0].shape) * size_of(DType::i32);
  return needs;
}
std::unique_ptr<Kernel> forward(Context& x, const Call& c, const MaxOverTime&) {
  return kernel([s = x.stream, q = sequences_of(c), in = c.in[0].data, out = c.out[0].data,
                 first = c.saved.as<i32>()] { max_over_time_forward(s, q, in, out, first); });
}
std::unique_ptr<Kernel> backward(Context& x, const Call& c, const MaxOverTime&) {
  if (!c.d_in[0].data) return nothing();
  return kernel([s = x.stream, q = sequences_of(c), d_out = c.d_out[0].data,
                 first = c.saved.as<i32>(), d_in = gradient_of(c, 0)] {
    max_over_time_backward(s, q, d_out, first, d_in);
  });
}

}  // namespace cohort::cuda
