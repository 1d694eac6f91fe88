#include "device/cuda/ops.h"

namespace cohort::cuda {

namespace {

// Mean and inverse deviation, channel by channel.
std::vector<double> moments_of(const Ingest& op) {
  std::vector<double> moments;
  for (std::size_t k = 0; k < op.mean.size(); ++k) {
    moments.push_back(op.mean[k]);
    moments.push_back(op.inv_std[k]);
  }
  return moments;
}

}  // namespace

Needs needs(const Context&, const Call&, const Ingest&) { return {}; }
std::unique_ptr<Kernel> forward(Context& x, const Call& c, const Ingest& op) {
  Field field;
  field.type = c.in[0].dtype;
  field.data = c.in[0].data;
  field.steps = steps_of(c, 0);
  field.scale = op.scale;
  field.channels = last(c.out[0].shape);
  if (!op.mean.empty()) {
    const std::vector<double> moments = moments_of(op);
    field.moments = upload(x, moments);
    field.narrow_moments = upload(x, std::vector<float>(moments.begin(), moments.end()));
  }
  return kernel([s = x.stream, v = values_of(c, c.out[0]), field, out = c.out[0].data] {
    ingest(s, v, field, out);
  });
}
std::unique_ptr<Kernel> backward(Context&, const Call&, const Ingest&) { return nothing(); }

namespace {

Ids ids_of(const Call& c) { return {c.in[0].as<i32>(), rows_of(c), row_size(c.in[0])}; }

TableGradient table_gradient(const Call& c, const Embedding& op) {
  TableGradient to;
  if (op.sparse) to.slots = c.slots.as<i32>();
  to.data = c.d_param[0].as<float>();
  to.rows = c.d_param[0].shape[0];
  to.dim = op.dim;
  return to;
}

}  // namespace

Needs needs(const Context&, const Call& c, const Embedding& op) {
  Needs needs;
  if (!c.d_param.empty()) needs.scratch = embedding_scratch(ids_of(c), table_gradient(c, op));
  return needs;
}
std::unique_ptr<Kernel> forward(Context& x, const Call& c, const Embedding& op) {
  return kernel([s = x.stream, ids = ids_of(c), table = c.param[0].as<float>(), dim = op.dim,
                 type = c.out[0].dtype, out = c.out[0].data] {
    embedding_forward(s, ids, table, dim, type, out);
  });
}
std::unique_ptr<Kernel> backward(Context& x, const Call& c, const Embedding& op) {
  return kernel([s = x.stream, ids = ids_of(c), to = table_gradient(c, op),
                 type = c.d_out[0].dtype, d_out = c.d_out[0].data, scratch = c.scratch] {
    embedding_backward(s, ids, type, d_out, to, scratch.data, scratch.count());
  });
}

}  // namespace cohort::cuda
