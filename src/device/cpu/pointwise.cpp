#include <cstring>

#include "device/cpu/cpu_impl.h"
#include "model/dropout_mask.h"

namespace cohort::cpu {

namespace {

double raw_at(const View& view, i64 index) {
  switch (view.dtype) {
    case DType::f32: return view.as<float>()[index];
    case DType::f64: return view.as<double>()[index];
    case DType::i32: return view.as<i32>()[index];
    case DType::i64: return static_cast<double>(view.as<cohort::i64>()[index]);
    case DType::u8: return view.as<cohort::u8>()[index];
  }
  return 0;
}

i32 id_at(const View& view, i64 index) {
  if (view.dtype == DType::i64) return static_cast<i32>(view.as<cohort::i64>()[index]);
  return view.as<i32>()[index];
}

}  // namespace

void forward(Context&, const Call& c, const Ingest& op) {
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
      real(out)[at] = static_cast<float>(x);
    }
  }
}
void backward(Context&, const Call&, const Ingest&) {}

void forward(Context& x, const Call& c, const Activate& op) {
  const i64 n = row_size(c.out[0]);
  sharded(x, valid_rows(c), [&](int, i64 first, i64 end) {
    std::copy_n(real(c.in[0]) + first * n, (end - first) * n, real(c.out[0]) + first * n);
    activate(x, op.activation, real(c.out[0]) + first * n, (end - first) * n);
  });
}
void backward(Context& x, const Call& c, const Activate& op) {
  if (!begin_gradient(c, 0)) return;
  const i64 n = row_size(c.out[0]);
  float block[256];
  for (i64 at = 0; at < valid_rows(c) * n; at += 256) {
    const i64 m = std::min<i64>(256, valid_rows(c) * n - at);
    activate_back(x, op.activation, block, real(c.d_out[0]) + at, real(c.out[0]) + at, m);
    x.kernels.add(real(c.d_in[0]) + at, block, m);
  }
}

namespace {

// to[i] = (add ? to[i] : 0) + factor * from[i] of the kept elements of rows [first, end).
void drop(const Call& c, const Dropout& op, const View& from, const View& to, bool add, i64 first,
          i64 end) {
  const i64 n = row_size(from);
  const u64 key = dropout_key(c.scalars->seed, c.scalars->epoch, c.node->name);
  const u32 threshold = dropout_threshold(op.rate);
  const float factor = static_cast<float>(1 / (1 - op.rate));
  for (i64 r = first; r < end; ++r) {
    for (i64 quad = 0; quad * 4 < n; ++quad) {
      const Philox bits = dropout_bits(key, c.row_id.as<i64>()[r], quad);
      for (i64 k = quad * 4; k < std::min(n, quad * 4 + 4); ++k) {
        const bool keep = bits[static_cast<std::size_t>(k % 4)] >= threshold;
        const float value = keep ? factor * real(from)[r * n + k] : 0;
        real(to)[r * n + k] = (add ? real(to)[r * n + k] : 0) + value;
      }
    }
  }
}

}  // namespace

void forward(Context& x, const Call& c, const Dropout& op) {
  const i64 n = row_size(c.out[0]);
  if (!c.scalars->training) {
    std::copy_n(real(c.in[0]), valid_rows(c) * n, real(c.out[0]));
    return;
  }
  sharded(x, valid_rows(c), [&](int, i64 first, i64 end) {
    drop(c, op, c.in[0], c.out[0], false, first, end);
  });
}
void backward(Context& x, const Call& c, const Dropout& op) {
  if (!begin_gradient(c, 0)) return;
  const i64 n = row_size(c.out[0]);
  if (!c.scalars->training)
    return x.kernels.add(real(c.d_in[0]), real(c.d_out[0]), valid_rows(c) * n);
  sharded(x, valid_rows(c),
          [&](int, i64 first, i64 end) { drop(c, op, c.d_out[0], c.d_in[0], true, first, end); });
}

void forward(Context&, const Call& c, const Concat&) {
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
void backward(Context&, const Call& c, const Concat&) {
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

void forward(Context&, const Call& c, const Dot&) {
  const i64 n = row_size(c.in[0]);
  for (i64 r = 0; r < valid_rows(c); ++r) {
    double sum = 0;
    for (i64 k = r * n; k < (r + 1) * n; ++k) sum += real(c.in[0])[k] * real(c.in[1])[k];
    real(c.out[0])[r] = static_cast<float>(sum);
  }
}
void backward(Context&, const Call& c, const Dot&) {
  const i64 n = row_size(c.in[0]);
  for (std::size_t k = 0; k < 2; ++k) {
    if (!begin_gradient(c, k)) continue;
    for (i64 i = 0; i < valid_rows(c) * n; ++i)
      real(c.d_in[k])[i] += real(c.d_out[0])[i / n] * real(c.in[1 - k])[i];
  }
}

void forward(Context&, const Call& c, const Flatten&) {
  std::copy_n(real(c.in[0]), valid_rows(c) * row_size(c.in[0]), real(c.out[0]));
}
void backward(Context&, const Call& c, const Flatten&) {
  if (!begin_gradient(c, 0)) return;
  for (i64 i = 0; i < valid_rows(c) * row_size(c.in[0]); ++i)
    real(c.d_in[0])[i] += real(c.d_out[0])[i];
}

}  // namespace cohort::cpu
