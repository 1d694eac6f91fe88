#include "device/cpu/cpu_impl.h"

namespace cohort::cpu {

void forward(Context&, const Call& c, const Embedding& op) {
  const i64 n = row_size(c.in[0]);
  for (i64 i = 0; i < c.rows * n; ++i) {
    const i64 id = i / n < valid_rows(c) ? c.in[0].as<i32>()[i] : -1;
    if (id < 0)
      std::fill_n(real(c.out[0]) + i * op.dim, op.dim, 0.0f);
    else
      std::copy_n(real(c.param[0]) + id * op.dim, op.dim, real(c.out[0]) + i * op.dim);
  }
}
void backward(Context& x, const Call& c, const Embedding& op) {
  const i64 n = row_size(c.in[0]);
  const View& rows = op.sparse && c.slots.data ? c.slots : c.in[0];
  for (i64 i = 0; i < valid_rows(c) * n; ++i) {
    const i64 row = rows.as<i32>()[i];
    if (row < 0 || c.in[0].as<i32>()[i] < 0) continue;
    x.kernels.add(real(c.d_param[0]) + row * op.dim, real(c.d_out[0]) + i * op.dim, op.dim);
  }
}

}  // namespace cohort::cpu
