// Private to the reference device: float64, plain loops, one function pair per op. Slow and meant
// to be read: the other devices are judged by it.
#pragma once
#include <algorithm>
#include <cmath>

#include "device/device.h"

namespace cohort::reference {

inline double* real(const View& view) { return view.as<double>(); }
inline i64 last(const Shape& shape) { return shape.empty() ? 1 : shape.back(); }
// Elements of one row.
inline i64 row_size(const View& view) {
  i64 n = 1;
  for (std::size_t d = 1; d < view.shape.size(); ++d) n *= view.shape[d];
  return n;
}
inline i64 valid_rows(const Call& c) { return std::min(c.rows, c.scalars->valid); }

// Valid steps of row r in the node's input k; the first dimension where it is not ragged.
inline i64 steps_in(const Call& c, std::size_t k, i64 r) {
  const Shape& shape = c.in[k].shape;
  const i64 capacity = shape.size() > 1 ? shape[1] : 1;
  if (k >= c.lengths.size() || !c.lengths[k].data) return capacity;
  const i64 length = c.lengths[k].as<i32>()[r];
  const i64 value = k < c.node->in.size() ? c.node->in[k] : -1;
  const i64 steps =
      value < 0 ? length : valid_steps(c.graph->values[static_cast<std::size_t>(value)], length);
  return std::min(steps, capacity);
}

double activate(Activation kind, double x);
// d activation / dx, from the result y.
double slope(Activation kind, double y);

// Zeroes d_in[k] unless it is accumulated into; false where it is not wanted.
bool begin_gradient(const Call& c, std::size_t k);

void forward(const Call& c, const Ingest& op);
void forward(const Call& c, const Dense& op);
void forward(const Call& c, const Embedding& op);
void forward(const Call& c, const Recurrent& op);
void forward(const Call& c, const Conv1d& op);
void forward(const Call& c, const Conv2d& op);
void forward(const Call& c, const MaxPool2d& op);
void forward(const Call& c, const AvgPool2d& op);
void forward(const Call& c, const GlobalAvgPool& op);
void forward(const Call& c, const MaxOverTime& op);
void forward(const Call& c, const BatchNorm& op);
void forward(const Call& c, const Dropout& op);
void forward(const Call& c, const Activate& op);
void forward(const Call& c, const Concat& op);
void forward(const Call& c, const Dot& op);
void forward(const Call& c, const Add& op);
void forward(const Call& c, const Flatten& op);
void forward(const Call& c, const Loss& op);
void backward(const Call& c, const Ingest& op);
void backward(const Call& c, const Dense& op);
void backward(const Call& c, const Embedding& op);
void backward(const Call& c, const Recurrent& op);
void backward(const Call& c, const Conv1d& op);
void backward(const Call& c, const Conv2d& op);
void backward(const Call& c, const MaxPool2d& op);
void backward(const Call& c, const AvgPool2d& op);
void backward(const Call& c, const GlobalAvgPool& op);
void backward(const Call& c, const MaxOverTime& op);
void backward(const Call& c, const BatchNorm& op);
void backward(const Call& c, const Dropout& op);
void backward(const Call& c, const Activate& op);
void backward(const Call& c, const Concat& op);
void backward(const Call& c, const Dot& op);
void backward(const Call& c, const Add& op);
void backward(const Call& c, const Flatten& op);
void backward(const Call& c, const Loss& op);

Needs needs_of(const Call& c);
i64 batch_norm_groups(const BatchNorm& op, i64 global_batch);
i64 batch_norm_places(const BatchNorm& op, i64 global_batch);   // positions of the largest group

void run_update(const DenseUpdate& update);
void run_update(const RowUpdate& update);
void run_norm(const NormCall& call);

}  // namespace cohort::reference
