// dense, embedding.
#include <vector>

#include "device/reference/reference_impl.h"

namespace cohort::reference {
namespace {

// Whether vector `i` (of [rows, steps, F] or [rows, F]) lies in a valid row and step.
bool is_valid(const Call& c, i64 i) {
  if (c.in[0].shape.size() < 3) return i < valid_rows(c);
  const i64 steps = c.in[0].shape[1];
  return i / steps < valid_rows(c) && i % steps < steps_in(c, 0, i / steps);
}

}  // namespace

void forward(const Call& c, const Dense& op) {
  const i64 features = last(c.in[0].shape), vectors = c.in[0].count() / features;
  for (i64 i = 0; i < vectors; ++i) {
    for (i64 u = 0; u < op.units; ++u) {
      double sum = op.bias ? real(c.param[1])[u] : 0;
      for (i64 f = 0; is_valid(c, i) && f < features; ++f)
        sum += real(c.param[0])[u * features + f] * real(c.in[0])[i * features + f];
      real(c.out[0])[i * op.units + u] = is_valid(c, i) ? activate(op.activation, sum) : 0;
    }
  }
}
void backward(const Call& c, const Dense& op) {
  const i64 features = last(c.in[0].shape), vectors = c.in[0].count() / features;
  const bool wanted = begin_gradient(c, 0);
  for (i64 i = 0; i < vectors; ++i) {
    for (i64 u = 0; is_valid(c, i) && u < op.units; ++u) {
      const i64 at = i * op.units + u;
      const double g = real(c.d_out[0])[at] * slope(op.activation, real(c.out[0])[at]);
      if (op.bias) real(c.d_param[1])[u] += g;
      for (i64 f = 0; f < features; ++f) {
        real(c.d_param[0])[u * features + f] += g * real(c.in[0])[i * features + f];
        if (wanted) real(c.d_in[0])[i * features + f] += g * real(c.param[0])[u * features + f];
      }
    }
  }
}

void forward(const Call& c, const Embedding& op) {
  const i64 n = row_size(c.in[0]);
  for (i64 i = 0; i < c.rows * n; ++i) {
    const i32 id = i / n < valid_rows(c) ? c.in[0].as<i32>()[i] : -1;
    for (i64 d = 0; d < op.dim; ++d)
      real(c.out[0])[i * op.dim + d] = id < 0 ? 0 : real(c.param[0])[id * op.dim + d];
  }
}
void backward(const Call& c, const Embedding& op) {
  const i64 n = row_size(c.in[0]);
  const View& rows = op.sparse && c.slots.data ? c.slots : c.in[0];
  for (i64 i = 0; i < valid_rows(c) * n; ++i) {
    const i32 row = rows.as<i32>()[i];
    if (row < 0 || c.in[0].as<i32>()[i] < 0) continue;
    for (i64 d = 0; d < op.dim; ++d)
      real(c.d_param[0])[row * op.dim + d] += real(c.d_out[0])[i * op.dim + d];
  }
}

}  // namespace cohort::reference
