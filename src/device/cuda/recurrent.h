// What the two ways to run a recurrent layer share.
#pragma once
#include "device/cuda/products.h"

namespace cohort::cuda {

// Without the memory of its states.
inline Recurrence recurrence_of(const Call& c, const Recurrent& op) {
  Recurrence r;
  r.type = c.in[0].dtype;
  r.rows = rows_of(c);
  r.steps = steps_of(c, 0);
  r.cell = op.cell;
  r.units = static_cast<i32>(op.units);
  r.every_step = op.every_step;
  r.out = c.out.empty() ? nullptr : c.out[0].data;
  return r;
}

// dnn_recurrent.cpp
Needs dnn_recurrent_needs(const Context& x, const Call& c, const Recurrent& op);
std::unique_ptr<Kernel> dnn_recurrent_forward(Context& x, const Call& c, const Recurrent& op);
std::unique_ptr<Kernel> dnn_recurrent_backward(Context& x, const Call& c, const Recurrent& op);

}  // namespace cohort::cuda
