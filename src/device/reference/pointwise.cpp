#include <cstring>

#include "base/error.h"
#include "device/reference/reference_impl.h"
#include "model/dropout_mask.h"

namespace cohort::reference {

double activate(Activation kind, double x) {
  switch (kind) {
    case Activation::relu: return x < 0 ? 0 : x;
    case Activation::tanh: return std::tanh(x);
    case Activation::sigmoid: return 1 / (1 + std::exp(-x));
    case Activation::none: break;
  }
  return x;
}

double slope(Activation kind, double y) {
  switch (kind) {
    case Activation::relu: return y > 0 ? 1 : 0;
    case Activation::tanh: return 1 - y * y;
    case Activation::sigmoid: return y * (1 - y);
    case Activation::none: break;
  }
  return 1;
}

bool begin_gradient(const Call& c, std::size_t k) {
  const View& view = c.d_in[k];
  if (!view.data) return false;
  if (!c.accumulate[k]) std::memset(view.data, 0, static_cast<std::size_t>(view.bytes()));
  return true;
}

namespace {

double raw_at(const View& view, i64 index) {
  switch (view.dtype) {
    case DType::f32: return view.as<float>()[index];
    case DType::f64: return view.as<double>()[index];
    case DType::i32: return view.as<i32>()[index];
    case DType::i64: return static_cast<double>(view.as<cohort::i64>()[index]);
    case DType::u8: return view.as<cohort::u8>()[index];
    default: broken(__FILE__, __LINE__, "shard sets hold no such type");
  }
}

i32 id_at(const View& view, i64 index) {
  if (view.dtype == DType::i64) return static_cast<i32>(view.as<cohort::i64>()[index]);
  return view.as<i32>()[index];
}

}  // namespace

void forward(const Call& c, const Ingest& op) {
  const View& raw = c.in[0];
  const View& out = c.out[0];
  const i64 n = row_size(out), channels = last(out.shape);
  const bool ids = out.dtype == DType::i32;
  const i64 capacity = out.shape.size() > 1 ? out.shape[1] : 1;
  const i64 per_step = n / std::max<i64>(capacity, 1);
  for (i64 r = 0; r < c.rows; ++r) {
    const bool ragged = !c.lengths.empty() && c.lengths[0].data;
    i64 end = ragged ? std::min<i64>(c.lengths[0].as<i32>()[r], capacity) * per_step : n;
    if (r >= valid_rows(c)) end = 0;
    for (i64 k = 0; k < n; ++k) {
      const i64 at = r * n + k;
      if (ids) {
        out.as<i32>()[at] = k < end ? id_at(raw, at) : -1;
        continue;
      }
      double x = k < end ? raw_at(raw, at) * op.scale : 0;
      const auto channel = static_cast<std::size_t>(k % channels);
      if (k < end && !op.mean.empty()) x = (x - op.mean[channel]) * op.inv_std[channel];
      real(out)[at] = x;
    }
  }
}
void backward(const Call&, const Ingest&) {}

void forward(const Call& c, const Activate& op) {
  const i64 n = row_size(c.out[0]);
  for (i64 i = 0; i < valid_rows(c) * n; ++i)
    real(c.out[0])[i] = activate(op.activation, real(c.in[0])[i]);
}
void backward(const Call& c, const Activate& op) {
  if (!begin_gradient(c, 0)) return;
  const i64 n = row_size(c.out[0]);
  for (i64 i = 0; i < valid_rows(c) * n; ++i)
    real(c.d_in[0])[i] += real(c.d_out[0])[i] * slope(op.activation, real(c.out[0])[i]);
}

namespace {

double dropout_factor(const Call& c, const Dropout& op, i64 row, i64 element) {
  if (!c.training) return 1;
  const u64 key = dropout_key(c.seed, c.scalars->epoch, c.node->name);
  const bool keep =
      dropout_keeps(key, c.row_id.as<i64>()[row], element, dropout_threshold(op.rate));
  return keep ? 1 / (1 - op.rate) : 0;
}

}  // namespace

void forward(const Call& c, const Dropout& op) {
  const i64 n = row_size(c.out[0]);
  for (i64 i = 0; i < valid_rows(c) * n; ++i)
    real(c.out[0])[i] = real(c.in[0])[i] * dropout_factor(c, op, i / n, i % n);
}
void backward(const Call& c, const Dropout& op) {
  if (!begin_gradient(c, 0)) return;
  const i64 n = row_size(c.out[0]);
  for (i64 i = 0; i < valid_rows(c) * n; ++i)
    real(c.d_in[0])[i] += real(c.d_out[0])[i] * dropout_factor(c, op, i / n, i % n);
}

void forward(const Call& c, const Concat&) {
  const View& out = c.out[0];
  const i64 width = last(out.shape), outer = valid_rows(c) * row_size(out) / width;
  i64 offset = 0;
  for (const View& in : c.in) {
    const i64 w = last(in.shape);
    for (i64 o = 0; o < outer; ++o)
      std::copy_n(real(in) + o * w, w, real(out) + o * width + offset);
    offset += w;
  }
}
void backward(const Call& c, const Concat&) {
  const i64 width = last(c.out[0].shape), outer = valid_rows(c) * row_size(c.out[0]) / width;
  i64 offset = 0;
  for (std::size_t k = 0; k < c.in.size(); ++k) {
    const i64 w = last(c.in[k].shape);
    if (begin_gradient(c, k)) {
      for (i64 i = 0; i < outer * w; ++i)
        real(c.d_in[k])[i] += real(c.d_out[0])[i / w * width + offset + i % w];
    }
    offset += w;
  }
}

void forward(const Call& c, const Dot&) {
  const i64 n = row_size(c.in[0]);
  for (i64 r = 0; r < valid_rows(c); ++r) {
    double sum = 0;
    for (i64 k = r * n; k < (r + 1) * n; ++k) sum += real(c.in[0])[k] * real(c.in[1])[k];
    real(c.out[0])[r] = sum;
  }
}
void backward(const Call& c, const Dot&) {
  const i64 n = row_size(c.in[0]);
  for (std::size_t k = 0; k < 2; ++k) {
    if (!begin_gradient(c, k)) continue;
    for (i64 i = 0; i < valid_rows(c) * n; ++i)
      real(c.d_in[k])[i] += real(c.d_out[0])[i / n] * real(c.in[1 - k])[i];
  }
}

void forward(const Call& c, const Add& op) {
  for (i64 i = 0; i < valid_rows(c) * row_size(c.out[0]); ++i) {
    double sum = 0;
    for (const View& in : c.in) sum += real(in)[i];
    real(c.out[0])[i] = activate(op.activation, sum);
  }
}
void backward(const Call& c, const Add& op) {
  for (std::size_t k = 0; k < c.in.size(); ++k) {
    if (!begin_gradient(c, k)) continue;
    for (i64 i = 0; i < valid_rows(c) * row_size(c.out[0]); ++i)
      real(c.d_in[k])[i] += real(c.d_out[0])[i] * slope(op.activation, real(c.out[0])[i]);
  }
}

void forward(const Call& c, const Flatten&) {
  std::copy_n(real(c.in[0]), valid_rows(c) * row_size(c.in[0]), real(c.out[0]));
}
void backward(const Call& c, const Flatten&) {
  if (!begin_gradient(c, 0)) return;
  for (i64 i = 0; i < valid_rows(c) * row_size(c.in[0]); ++i)
    real(c.d_in[0])[i] += real(c.d_out[0])[i];
}

}  // namespace cohort::reference
