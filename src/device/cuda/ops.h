// From a Call to what the launchers of our own kernels take.
#pragma once
#include "device/cuda/cuda_impl.h"
#include "device/cuda/kernels.h"

namespace cohort::cuda {

inline std::unique_ptr<Kernel> nothing() {
  return kernel([] {});
}
inline RowCount rows_of(const Call& c) { return {&c.scalars->valid, c.rows}; }
inline Values values_of(const Call& c, const View& view) {
  return {view.dtype, rows_of(c), row_size(view)};
}
inline Gradient gradient_of(const Call& c, std::size_t k) {
  return {c.d_in[k].data, c.accumulate[k]};
}
// Memory of an op that is zero when it is compiled: counters that kernels leave at zero.
inline u32* counters(Context& x, i64 count) {
  return static_cast<u32*>(x.device->allocate(count * static_cast<i64>(sizeof(u32))));
}

}  // namespace cohort::cuda
