#include "device/cpu/cpu_impl.h"

namespace cohort::cpu {

void forward(Context& x, const Call& c, const Embedding& op) {
  const i64 n = row_size(c.in[0]), used = valid_rows(c) * n;
  sharded(x, c.rows * n, [&](int, i64 first, i64 end) {
    for (i64 i = first; i < end; ++i) {
      const i64 id = i < used ? c.in[0].as<i32>()[i] : -1;
      if (id < 0)
        std::fill_n(real(c.out[0]) + i * op.dim, op.dim, 0.0f);
      else
        std::copy_n(real(c.param[0]) + id * op.dim, op.dim, real(c.out[0]) + i * op.dim);
    }
  });
}

// A shard owns a range of rows of the gradient and reads every id, so each row is summed in the
// order of the batch whatever the number of threads.
void backward(Context& x, const Call& c, const Embedding& op) {
  const i64 n = row_size(c.in[0]), used = valid_rows(c) * n;
  const i32* ids = c.in[0].as<i32>();
  const i32* rows = op.sparse && c.slots.data ? c.slots.as<i32>() : ids;
  sharded(x, c.d_param[0].shape[0], [&](int, i64 first, i64 end) {
    for (i64 i = 0; i < used; ++i) {
      if (rows[i] < first || rows[i] >= end || ids[i] < 0) continue;
      x.kernels.add(real(c.d_param[0]) + rows[i] * op.dim, real(c.d_out[0]) + i * op.dim, op.dim);
    }
  });
}

}  // namespace cohort::cpu
