#include <cstring>

#include "device/cpu/cpu_impl.h"
#include "model/dropout_mask.h"

namespace cohort::cpu {

namespace {

i32 id_at(const View& view, i64 index) {
  if (view.dtype == DType::i64) return static_cast<i32>(view.as<cohort::i64>()[index]);
  return view.as<i32>()[index];
}

// Values [first, end) of the field, scaled and normalised by channel.
template <class Raw>
void read_real(const Call& c, const Ingest& op, i64 first, i64 end) {
  const Raw* from = c.in[0].as<Raw>();
  float* to = real(c.out[0]);
  const i64 channels = last(c.out[0].shape);
  if (op.mean.empty()) {
    for (i64 k = first; k < end; ++k)
      to[k] = static_cast<float>(static_cast<double>(from[k]) * op.scale);
    return;
  }
  for (i64 k = first; k < end; k += channels)
    for (i64 j = 0; j < std::min(channels, end - k); ++j) {
      const auto channel = static_cast<std::size_t>(j);
      const double x = static_cast<double>(from[k + j]) * op.scale;
      to[k + j] = static_cast<float>((x - op.mean[channel]) * op.inv_std[channel]);
    }
}

void read_any(const Call& c, const Ingest& op, i64 first, i64 end) {
  switch (c.in[0].dtype) {
    case DType::f32: return read_real<float>(c, op, first, end);
    case DType::f64: return read_real<double>(c, op, first, end);
    case DType::i32: return read_real<i32>(c, op, first, end);
    case DType::i64: return read_real<cohort::i64>(c, op, first, end);
    case DType::u8: return read_real<cohort::u8>(c, op, first, end);
    default: broken(__FILE__, __LINE__, "shard sets hold no such type");
  }
}

void ingest_row(const Call& c, const Ingest& op, i64 r) {
  const View& out = c.out[0];
  const i64 n = row_size(out), capacity = out.shape.size() > 1 ? out.shape[1] : 1;
  const bool ragged = !c.lengths.empty() && c.lengths[0].data;
  i64 used = n;
  if (ragged)
    used = std::min<i64>(c.lengths[0].as<i32>()[r], capacity) * (n / std::max<i64>(capacity, 1));
  if (r >= valid_rows(c)) used = 0;
  if (out.dtype == DType::i32) {
    for (i64 k = r * n; k < (r + 1) * n; ++k)
      out.as<i32>()[k] = k < r * n + used ? id_at(c.in[0], k) : -1;
    return;
  }
  read_any(c, op, r * n, r * n + used);
  std::fill_n(real(out) + r * n + used, n - used, 0.0f);
}

}  // namespace

void forward(Context& x, const Call& c, const Ingest& op) {
  sharded(x, c.rows, [&](int, i64 first, i64 end) {
    for (i64 r = first; r < end; ++r) ingest_row(c, op, r);
  });
}
void backward(Context&, const Call&, const Ingest&) {}

void forward(Context& x, const Call& c, const Activate& op) {
  const i64 n = row_size(c.out[0]);
  sharded(x, valid_rows(c), [&](int, i64 first, i64 end) {
    std::copy_n(real(c.in[0]) + first * n, (end - first) * n, real(c.out[0]) + first * n);
    activate(x, op.activation, real(c.out[0]) + first * n, (end - first) * n);
  });
}
namespace {

// The gradient of input k is that of the result before activation.
void pass_back(Context& x, const Call& c, Activation activation, std::size_t k) {
  if (!begin_gradient(c, k)) return;
  const i64 n = row_size(c.out[0]);
  sharded(x, valid_rows(c) * n, [&](int, i64 first, i64 end) {
    float block[256];
    for (i64 at = first; at < end; at += 256) {
      const i64 m = std::min<i64>(256, end - at);
      activate_back(x, activation, block, real(c.d_out[0]) + at, real(c.out[0]) + at, m);
      x.kernels.add(real(c.d_in[k]) + at, block, m);
    }
  });
}

}  // namespace

void backward(Context& x, const Call& c, const Activate& op) { pass_back(x, c, op.activation, 0); }

void forward(Context& x, const Call& c, const Add& op) {
  const i64 n = row_size(c.out[0]);
  sharded(x, valid_rows(c), [&](int, i64 first, i64 end) {
    float* out = real(c.out[0]) + first * n;
    const i64 values = (end - first) * n;
    std::copy_n(real(c.in[0]) + first * n, values, out);
    for (std::size_t k = 1; k < c.in.size(); ++k)
      x.kernels.add(out, real(c.in[k]) + first * n, values);
    activate(x, op.activation, out, values);
  });
}
void backward(Context& x, const Call& c, const Add& op) {
  for (std::size_t k = 0; k < c.in.size(); ++k) pass_back(x, c, op.activation, k);
}

namespace {

// to[i] = (add ? to[i] : 0) + factor * from[i] of the kept elements of rows [first, end).
void drop(const Call& c, const Dropout& op, const View& from, const View& to, bool add, i64 first,
          i64 end) {
  const i64 n = row_size(from);
  const u64 key = dropout_key(c.seed, c.scalars->epoch, c.node->name);
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
  if (!c.training) {
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
  if (!c.training)
    return x.kernels.add(real(c.d_in[0]), real(c.d_out[0]), valid_rows(c) * n);
  sharded(x, valid_rows(c),
          [&](int, i64 first, i64 end) { drop(c, op, c.d_out[0], c.d_in[0], true, first, end); });
}

void forward(Context& x, const Call& c, const Concat&) {
  const View& out = c.out[0];
  const i64 width = last(out.shape), outer = valid_rows(c) * row_size(out) / width;
  sharded(x, outer, [&](int, i64 first, i64 end) {
    i64 offset = 0;
    for (const View& in : c.in) {
      const i64 w = last(in.shape);
      for (i64 o = first; o < end; ++o)
        std::copy_n(real(in) + o * w, w, real(out) + o * width + offset);
      offset += w;
    }
  });
}
void backward(Context& x, const Call& c, const Concat&) {
  const i64 width = last(c.out[0].shape), outer = valid_rows(c) * row_size(c.out[0]) / width;
  i64 offset = 0;
  for (std::size_t k = 0; k < c.in.size(); ++k) {
    const i64 w = last(c.in[k].shape);
    if (begin_gradient(c, k)) {
      sharded(x, outer, [&](int, i64 first, i64 end) {
        for (i64 o = first; o < end; ++o)
          x.kernels.add(real(c.d_in[k]) + o * w, real(c.d_out[0]) + o * width + offset, w);
      });
    }
    offset += w;
  }
}

void forward(Context& x, const Call& c, const Dot&) {
  const i64 n = row_size(c.in[0]);
  sharded(x, valid_rows(c), [&](int, i64 first, i64 end) {
    for (i64 r = first; r < end; ++r) {
      double sum = 0;
      for (i64 k = r * n; k < (r + 1) * n; ++k) sum += real(c.in[0])[k] * real(c.in[1])[k];
      real(c.out[0])[r] = static_cast<float>(sum);
    }
  });
}
void backward(Context& x, const Call& c, const Dot&) {
  const i64 n = row_size(c.in[0]);
  for (std::size_t k = 0; k < 2; ++k) {
    if (!begin_gradient(c, k)) continue;
    sharded(x, valid_rows(c), [&](int, i64 first, i64 end) {
      for (i64 r = first; r < end; ++r)
        x.kernels.axpy(real(c.d_in[k]) + r * n, real(c.d_out[0])[r], real(c.in[1 - k]) + r * n, n);
    });
  }
}

void forward(Context& x, const Call& c, const Flatten&) {
  const i64 n = row_size(c.in[0]);
  sharded(x, valid_rows(c), [&](int, i64 first, i64 end) {
    std::copy_n(real(c.in[0]) + first * n, (end - first) * n, real(c.out[0]) + first * n);
  });
}
void backward(Context& x, const Call& c, const Flatten&) {
  if (!begin_gradient(c, 0)) return;
  const i64 n = row_size(c.in[0]);
  sharded(x, valid_rows(c), [&](int, i64 first, i64 end) {
    x.kernels.add(real(c.d_in[0]) + first * n, real(c.d_out[0]) + first * n, (end - first) * n);
  });
}

}  // namespace cohort::cpu
