// Max pools from their definition: the largest of a window; the gradient of an output goes to the
// first place, in scan order, that holds it.
#include "device/reference/reference_impl.h"

namespace cohort::reference {
namespace {

// Calls use(input element) for the window of an output until it returns true.
template <class Use>
void scan_window(const Call& c, const MaxPool2d& op, i64 output, Use use) {
  const Shape& in = c.in[0].shape;
  const Shape& out = c.out[0].shape;
  const i64 channel = output % out[3], x = output / out[3] % out[2];
  const i64 y = output / out[3] / out[2] % out[1], r = output / out[3] / out[2] / out[1];
  for (i64 row = y * op.stride; row < y * op.stride + op.size; ++row)
    for (i64 column = x * op.stride; column < x * op.stride + op.size; ++column)
      if (use(((r * in[1] + row) * in[2] + column) * in[3] + channel)) return;
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

}  // namespace

void forward(const Call& c, const MaxPool2d& op) { largest(c, op); }
void backward(const Call& c, const MaxPool2d& op) { send_back(c, op); }
void forward(const Call& c, const MaxOverTime& op) { largest(c, op); }
void backward(const Call& c, const MaxOverTime& op) { send_back(c, op); }

}  // namespace cohort::reference
