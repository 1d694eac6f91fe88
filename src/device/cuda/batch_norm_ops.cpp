#include "device/cuda/kernels_layers.h"
#include "device/cuda/ops.h"

namespace cohort::cuda {

namespace {

NormShape shape_of(const Context& x, const Call& c, const BatchNorm& op) {
  NormShape n;
  n.type = c.in[0].dtype;
  n.rows = rows_of(c);
  n.channels = last(c.in[0].shape);
  n.steps = steps_of(c, 0);
  const i64 vectors = row_size(c.in[0]) / n.channels;
  if (!n.steps.lengths) n.steps.capacity = 1;
  n.vectors_per_step = vectors / n.steps.capacity;
  n.global_batch = c.global_batch;
  n.groups = op.groups > 0 ? op.groups : std::max<i64>(1, c.global_batch / 32);
  if (!c.training) n.groups = 1;   // the statistics are the same for all
  n.position = c.position.as<i32>();
  n.epsilon = op.epsilon;
  n.activation = op.activation;
  n.splits = norm_splits(n, x.processors);
  return n;
}

NormMemory memory_of(Context& x, const Call& c, const NormShape& n) {
  NormMemory m;
  m.weight = c.param[0].as<float>();
  m.bias = c.param[1].as<float>();
  if (!c.training) m.running = c.param[2].as<float>();
  if (!c.training) m.running_variance = c.param[3].as<float>();
  m.sync = c.sync.as<double>();
  m.saved = c.saved.as<float>();
  m.parts = reinterpret_cast<double*>(c.scratch.data);
  m.counters = counters(x, norm_counters(n));
  return m;
}

NormGradients gradients_of(const Call& c) {
  NormGradients to;
  if (!c.training || c.d_param.size() < 2) return to;
  to.weight = c.d_param[0].as<float>();
  to.bias = c.d_param[1].as<float>();
  if (c.d_param.size() < 4) return to;
  to.running = c.d_param[2].as<float>();
  to.running_variance = c.d_param[3].as<float>();
  return to;
}

}  // namespace

Needs needs(const Context& x, const Call& c, const BatchNorm& op) {
  Needs needs;
  const NormShape n = shape_of(x, c, op);
  needs.phases = 2;
  needs.sync = {n.groups, 2 + 2 * n.channels};
  needs.saved = n.groups * 2 * n.channels * size_of(DType::f32);
  needs.scratch = norm_parts_bytes(n);
  return needs;
}

std::unique_ptr<Kernel> forward(Context& x, const Call& c, const BatchNorm& op) {
  const NormShape n = shape_of(x, c, op);
  const NormMemory m = memory_of(x, c, n);
  if (c.training && c.phase == 0)
    return kernel([s = x.stream, n, m, in = c.in[0].data] { norm_moments(s, n, m, in); });
  return kernel([s = x.stream, n, m, in = c.in[0].data, out = c.out[0].data,
                 to = gradients_of(c)] { norm_forward(s, n, m, in, out, to); });
}

std::unique_ptr<Kernel> backward(Context& x, const Call& c, const BatchNorm& op) {
  const NormShape n = shape_of(x, c, op);
  const NormMemory m = memory_of(x, c, n);
  const NormValues v{c.in[0].data, c.out[0].data, c.d_out[0].data};
  if (c.phase == 0)
    return kernel([s = x.stream, n, m, v, to = gradients_of(c)] {
      norm_gradient_sums(s, n, m, v, to);
    });
  if (!c.d_in[0].data) return nothing();
  return kernel([s = x.stream, n, m, v, d_in = gradient_of(c, 0)] {
    norm_backward(s, n, m, v, d_in);
  });
}

}  // namespace cohort::cuda
