// Pools from their definition. Max: the largest of a window; the gradient of an output goes to the
// first place, in scan order, that holds it. Average: the mean of a window.
#include "device/reference/reference_impl.h"

namespace cohort::reference {
namespace {

struct Square { i64 size, stride, padding; };
Square window_of(const MaxPool2d& op) { return {op.size, op.stride, op.padding}; }
Square window_of(const AvgPool2d& op) { return {op.size, op.stride, 0}; }

// Calls use(input element) for the window of an output until it returns true.
template <class Use>
void scan(const Call& c, const Square& window, i64 output, Use use) {
  const Shape& in = c.in[0].shape;
  const Shape& out = c.out[0].shape;
  const i64 channel = output % out[3], x = output / out[3] % out[2];
  const i64 y = output / out[3] / out[2] % out[1], r = output / out[3] / out[2] / out[1];
  const i64 top = y * window.stride - window.padding, left = x * window.stride - window.padding;
  for (i64 row = std::max<i64>(top, 0); row < std::min(top + window.size, in[1]); ++row)
    for (i64 column = std::max<i64>(left, 0); column < std::min(left + window.size, in[2]); ++column)
      if (use(((r * in[1] + row) * in[2] + column) * in[3] + channel)) return;
}
template <class Use>
void scan_window(const Call& c, const MaxPool2d& op, i64 output, Use use) {
  scan(c, window_of(op), output, use);
}
template <class Use>
void scan_window(const Call& c, const AvgPool2d& op, i64 output, Use use) {
  scan(c, window_of(op), output, use);
}

// The whole image: output is r * channels + channel.
template <class Use>
void scan_window(const Call& c, const GlobalAvgPool&, i64 output, Use use) {
  const Shape& in = c.in[0].shape;
  const i64 places = in[1] * in[2], r = output / in[3];
  for (i64 p = 0; p < places; ++p)
    if (use((r * places + p) * in[3] + output % in[3])) return;
}

// The same over the valid steps of a feature: output is r * features + feature.
template <class Use>
void scan_window(const Call& c, const MaxOverTime&, i64 output, Use use) {
  const i64 steps = c.in[0].shape[1], features = c.in[0].shape[2];
  const i64 r = output / features;
  for (i64 t = 0; t < steps_in(c, 0, r); ++t)
    if (use((r * steps + t) * features + output % features)) return;
}

template <class Pool>
void largest(const Call& c, const Pool& op) {
  for (i64 o = 0; o < valid_rows(c) * row_size(c.out[0]); ++o) {
    bool any = false;
    double most = 0;   // of an empty window
    scan_window(c, op, o, [&](i64 i) {
      most = any ? std::max(most, real(c.in[0])[i]) : real(c.in[0])[i];
      any = true;
      return false;
    });
    real(c.out[0])[o] = most;
  }
}

template <class Pool>
void send_back(const Call& c, const Pool& op) {
  if (!begin_gradient(c, 0)) return;
  for (i64 o = 0; o < valid_rows(c) * row_size(c.out[0]); ++o) {
    scan_window(c, op, o, [&](i64 i) {
      const bool here = real(c.in[0])[i] == real(c.out[0])[o];
      if (here) real(c.d_in[0])[i] += real(c.d_out[0])[o];
      return here;
    });
  }
}

template <class Pool>
void mean(const Call& c, const Pool& op) {
  for (i64 o = 0; o < valid_rows(c) * row_size(c.out[0]); ++o) {
    double sum = 0, n = 0;
    scan_window(c, op, o, [&](i64 i) {
      sum += real(c.in[0])[i];
      n += 1;
      return false;
    });
    real(c.out[0])[o] = sum / n;
  }
}

template <class Pool>
void share_back(const Call& c, const Pool& op) {
  if (!begin_gradient(c, 0)) return;
  for (i64 o = 0; o < valid_rows(c) * row_size(c.out[0]); ++o) {
    double n = 0;
    scan_window(c, op, o, [&](i64) {
      n += 1;
      return false;
    });
    scan_window(c, op, o, [&](i64 i) {
      real(c.d_in[0])[i] += real(c.d_out[0])[o] / n;
      return false;
    });
  }
}

}  // namespace

void forward(const Call& c, const MaxPool2d& op) { largest(c, op); }
void backward(const Call& c, const MaxPool2d& op) { send_back(c, op); }
void forward(const Call& c, const MaxOverTime& op) { largest(c, op); }
void backward(const Call& c, const MaxOverTime& op) { send_back(c, op); }
void forward(const Call& c, const AvgPool2d& op) { mean(c, op); }
void backward(const Call& c, const AvgPool2d& op) { share_back(c, op); }
void forward(const Call& c, const GlobalAvgPool& op) { mean(c, op); }
void backward(const Call& c, const GlobalAvgPool& op) { share_back(c, op); }

}  // namespace cohort::reference
