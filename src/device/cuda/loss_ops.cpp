#include "device/cuda/kernels_train.h"
#include "device/cuda/ops.h"

namespace cohort::cuda {

namespace {

LossInput input_of(const Call& c, LossKind kind) {
  LossInput in;
  const bool ragged = !c.lengths.empty() && c.lengths[0].data;
  in.rows = rows_of(c);
  in.row = row_size(c.in[0]);
  in.steps = steps_of(c, 0);
  const i64 per_step = ragged ? in.row / in.steps.capacity : in.row;
  in.place = kind == LossKind::cross_entropy ? last(c.in[0].shape) : per_step;
  if (!ragged) in.steps.capacity = 1;
  in.places_per_step = per_step / in.place;
  in.target_steps = in.steps;
  if (ragged && c.lengths.size() > 1 && c.lengths[1].data) in.target_steps = steps_of(c, 1);
  in.type = c.in[0].dtype;
  in.target_type = c.in[1].dtype;
  in.prediction = c.in[0].data;
  in.target = c.in[1].data;
  in.weight = c.weight.as<float>();
  return in;
}

}  // namespace

Needs needs(const Context&, const Call& c, const Loss& op) {
  Needs needs;
  needs.scratch = loss_parts * size_of(DType::f64);
  if (op.kind == LossKind::cross_entropy)
    needs.saved = loss_places(input_of(c, op.kind)) * 2 * size_of(DType::f32);
  return needs;
}

std::unique_ptr<Kernel> forward(Context& x, const Call& c, const Loss& op) {
  const LossSums sums{c.out[0].as<double>(), reinterpret_cast<double*>(c.scratch.data),
                      counters(x, 1)};
  return kernel([s = x.stream, kind = op.kind, in = input_of(c, op.kind), sums,
                 normalisers = c.saved.as<float>()] {
    loss_forward(s, kind, in, normalisers, sums);
  });
}

std::unique_ptr<Kernel> backward(Context& x, const Call& c, const Loss& op) {
  if (!c.d_in[0].data) return nothing();
  return kernel([s = x.stream, kind = op.kind, in = input_of(c, op.kind),
                 normalisers = c.saved.as<float>(), decision = c.decision,
                 d_in = gradient_of(c, 0)] {
    loss_backward(s, kind, in, normalisers, decision, d_in);
  });
}

}  // namespace cohort::cuda
