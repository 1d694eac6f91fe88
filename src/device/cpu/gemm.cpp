#include <oneapi/dnnl/dnnl.h>

#include "device/cpu/cpu_impl.h"

namespace cohort::cpu {

void gemm(const Gemm& g) {
  if (g.m == 0 || g.n == 0) return;
  const dnnl_status_t status =
      dnnl_sgemm(g.a_t ? 'T' : 'N', g.b_t ? 'T' : 'N', g.m, g.n, g.k, 1.0f, g.a, g.lda, g.b, g.ldb,
                 g.beta, g.c, g.ldc);
  if (status != dnnl_success)
    broken(__FILE__, __LINE__, fmt::format("dnnl_sgemm [{}, {}, {}] returned {}", g.m, g.n, g.k,
                                           static_cast<int>(status)));
}

void pack_transposed(const float* weight, i64 n, i64 k, float* to) {
  const i64 all = padded(n);
  for (i64 panel = 0; panel < all; panel += packed_panel) {
    const i64 width = std::min(packed_panel, all - panel), used = std::min(width, n - panel);
    for (i64 row = 0; row < k; ++row, to += width) {
      for (i64 j = 0; j < used; ++j) to[j] = weight[(panel + j) * k + row];
      std::fill(to + used, to + width, 0.0f);
    }
  }
}

const float* Packs::of(const float* weight, i64 n, i64 k) {
  const std::lock_guard lock(mutex_);
  std::vector<float>& pack = packs_[weight];
  if (pack.empty()) {
    pack.resize(static_cast<std::size_t>(padded(n) * k));
    pack_transposed(weight, n, k, pack.data());
  }
  return pack.data();
}

void activate(const Context& x, Activation kind, float* data, i64 n) {
  if (kind == Activation::relu) x.kernels.relu(data, n);
  if (kind == Activation::tanh) x.kernels.tanh(data, n);
  if (kind == Activation::sigmoid) x.kernels.sigmoid(data, n);
}

void activate_back(const Context& x, Activation kind, float* d, const float* dy, const float* y,
                   i64 n) {
  switch (kind) {
    case Activation::relu: return x.kernels.relu_back(d, dy, y, n);
    case Activation::tanh: return x.kernels.tanh_back(d, dy, y, n);
    case Activation::sigmoid: return x.kernels.sigmoid_back(d, dy, y, n);
    case Activation::none: break;
  }
  if (d != dy) std::memcpy(d, dy, static_cast<std::size_t>(n) * sizeof(float));
}

bool begin_gradient(const Call& c, std::size_t k) {
  const View& view = c.d_in[k];
  if (!view.data) return false;
  if (!c.accumulate[k]) std::memset(view.data, 0, static_cast<std::size_t>(view.bytes()));
  return true;
}

void zero_padding(const View& view, i64 valid) {
  const i64 rows = view.shape.empty() ? 1 : view.shape[0], n = row_size(view);
  if (valid < rows) std::fill_n(real(view) + valid * n, (rows - valid) * n, 0.0f);
}

void reduce_parts(const Context& x, float* to, i64 n, const float* first, i64 stride) {
  for (i64 shard = 0; shard < x.threads; ++shard) x.kernels.add(to, first + shard * stride, n);
}

}  // namespace cohort::cpu
