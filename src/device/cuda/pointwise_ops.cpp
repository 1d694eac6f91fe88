#include <numeric>

#include "device/cuda/ops.h"
#include "model/dropout_mask.h"

namespace cohort::cuda {

namespace {

std::unique_ptr<Kernel> sum_of_inputs(Context& x, const Call& c, Activation activation) {
  std::vector<const void*> in;
  for (const View& view : c.in) in.push_back(view.data);
  const void* const* table = upload(x, in);
  const auto count = static_cast<int>(in.size());
  // What is zero at steps that are not valid stays so, but for the sigmoid.
  const Steps steps = activation == Activation::sigmoid ? steps_of(c, 0) : Steps{};
  return kernel([s = x.stream, v = values_of(c, c.out[0]), steps, table, count,
                 out = c.out[0].data, activation] {
    sum_forward(s, v, steps, table, count, out, activation);
  });
}

std::unique_ptr<Kernel> gradient_of_sum(Context& x, const Call& c, Activation activation) {
  std::vector<Gradient> d_in;
  for (std::size_t k = 0; k < c.in.size(); ++k)
    if (c.d_in[k].data) d_in.push_back(gradient_of(c, k));
  if (d_in.empty()) return nothing();
  const Gradient* table = upload(x, d_in);
  const auto count = static_cast<int>(d_in.size());
  return kernel([s = x.stream, v = values_of(c, c.out[0]), table, count, d_out = c.d_out[0].data,
                 out = c.out[0].data, activation] {
    sum_backward(s, v, table, count, d_out, out, activation);
  });
}

}  // namespace

Needs needs(const Context&, const Call&, const Activate&) { return {}; }
std::unique_ptr<Kernel> forward(Context& x, const Call& c, const Activate& op) {
  return sum_of_inputs(x, c, op.activation);
}
std::unique_ptr<Kernel> backward(Context& x, const Call& c, const Activate& op) {
  return gradient_of_sum(x, c, op.activation);
}

Needs needs(const Context&, const Call&, const Add&) { return {}; }
std::unique_ptr<Kernel> forward(Context& x, const Call& c, const Add& op) {
  return sum_of_inputs(x, c, op.activation);
}
std::unique_ptr<Kernel> backward(Context& x, const Call& c, const Add& op) {
  return gradient_of_sum(x, c, op.activation);
}

Needs needs(const Context&, const Call&, const Flatten&) { return {}; }
std::unique_ptr<Kernel> forward(Context& x, const Call& c, const Flatten&) {
  return sum_of_inputs(x, c, Activation::none);
}
std::unique_ptr<Kernel> backward(Context& x, const Call& c, const Flatten&) {
  return gradient_of_sum(x, c, Activation::none);
}

namespace {

DropoutMask mask_of(const Call& c, const Dropout& op) {
  DropoutMask mask;
  mask.seed = c.seed;
  mask.layer = name_key(c.node->name);
  mask.epoch = &c.scalars->epoch;
  mask.row_id = c.row_id.as<i64>();
  mask.threshold = dropout_threshold(op.rate);
  mask.factor = static_cast<float>(1 / (1 - op.rate));
  return mask;
}

}  // namespace

Needs needs(const Context&, const Call&, const Dropout&) { return {}; }
std::unique_ptr<Kernel> forward(Context& x, const Call& c, const Dropout& op) {
  if (!c.training) return sum_of_inputs(x, c, Activation::none);
  return kernel([s = x.stream, v = values_of(c, c.out[0]), in = c.in[0].data,
                 out = Gradient{c.out[0].data, false}, mask = mask_of(c, op)] {
    dropout(s, v, in, out, mask);
  });
}
std::unique_ptr<Kernel> backward(Context& x, const Call& c, const Dropout& op) {
  if (!c.d_in[0].data) return nothing();
  if (!c.training) return gradient_of_sum(x, c, Activation::none);
  return kernel([s = x.stream, v = values_of(c, c.out[0]), d_out = c.d_out[0].data,
                 d_in = gradient_of(c, 0), mask = mask_of(c, op)] {
    dropout(s, v, d_out, d_in, mask);
  });
}

namespace {

std::vector<ConcatPart> parts_of(const Call& c) {
  std::vector<ConcatPart> parts;
  i64 offset = 0;
  for (std::size_t k = 0; k < c.in.size(); ++k) {
    const i64 width = last(c.in[k].shape);
    parts.push_back({c.in[k].data, {}, offset, width});
    if (c.pass == Pass::backward) parts.back().d_in = gradient_of(c, k);
    offset += width;
  }
  return parts;
}

Concatenation concatenation_of(Context& x, const Call& c, const std::vector<ConcatPart>& parts) {
  Concatenation concat;
  concat.parts = upload(x, parts);
  concat.count = static_cast<int>(parts.size());
  concat.vectors = row_size(c.out[0]) / last(c.out[0].shape);
  concat.multiple = 0;
  for (const View& in : c.in) concat.multiple = std::gcd(concat.multiple, last(in.shape));
  return concat;
}

bool has_twice(const std::vector<ConcatPart>& parts) {
  for (std::size_t k = 0; k < parts.size(); ++k)
    for (std::size_t j = 0; j < k; ++j)
      if (parts[k].d_in.data && parts[k].d_in.data == parts[j].d_in.data) return true;
  return false;
}

}  // namespace

Needs needs(const Context&, const Call&, const Concat&) { return {}; }
std::unique_ptr<Kernel> forward(Context& x, const Call& c, const Concat&) {
  return kernel([s = x.stream, v = values_of(c, c.out[0]), out = c.out[0].data,
                 concat = concatenation_of(x, c, parts_of(c))] {
    concat_forward(s, v, concat, out);
  });
}
// One launch; one per part where a value comes twice and its gradients add up.
std::unique_ptr<Kernel> backward(Context& x, const Call& c, const Concat&) {
  std::vector<Concatenation> launches;
  const std::vector<ConcatPart> parts = parts_of(c);
  if (!has_twice(parts)) {
    launches.push_back(concatenation_of(x, c, parts));
  } else {
    for (const ConcatPart& part : parts) launches.push_back(concatenation_of(x, c, {part}));
  }
  return kernel([s = x.stream, v = values_of(c, c.out[0]), d_out = c.d_out[0].data, launches] {
    for (const Concatenation& concat : launches) concat_backward(s, v, concat, d_out);
  });
}

Needs needs(const Context&, const Call&, const Dot&) { return {}; }
std::unique_ptr<Kernel> forward(Context& x, const Call& c, const Dot&) {
  return kernel([s = x.stream, v = values_of(c, c.in[0]), a = c.in[0].data, b = c.in[1].data,
                 out = c.out[0].data] { dot_forward(s, v, a, b, out); });
}
std::unique_ptr<Kernel> backward(Context& x, const Call& c, const Dot&) {
  return kernel([s = x.stream, v = values_of(c, c.in[0]), a = c.in[0].data, b = c.in[1].data,
                 d_out = c.d_out[0].data, d_a = gradient_of(c, 0), d_b = gradient_of(c, 1)] {
    dot_backward(s, v, a, b, d_out, d_a, d_b);
  });
}

}  // namespace cohort::cuda
