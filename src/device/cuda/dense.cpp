// dense: a product with bias (and ReLU) fused; other activations, and zeros where nothing is valid,
// by a kernel after it.
#include "device/cuda/matmul.h"
#include "device/cuda/products.h"

namespace cohort::cuda {
namespace {

Vectors vectors_of(const Call& c, const Dense& op) {
  Vectors v;
  v.type = c.in[0].dtype;
  v.rows = rows_of(c);
  v.per_row = row_size(c.in[0]) / last(c.in[0].shape);
  v.width = op.units;
  v.steps = steps_of(c, 0);
  if (c.in[0].shape.size() < 3) v.steps.lengths = nullptr;
  if (v.steps.lengths) v.per_step = v.per_row / v.steps.capacity;
  return v;
}

struct DenseBack {
  BackOfVectors vectors;
  DenseBack(const Call& c, const Dense& op, Carver& scratch)
      : vectors(c, vectors_of(c, op), op.activation, scratch) {
    const Vectors& v = vectors.vectors;
    vectors.gradient.dz = scratch.take(v.count() * v.width, size_of(v.type));
  }
};

}  // namespace

Needs needs(const Context&, const Call& c, const Dense& op) {
  Needs needs;
  Carver saved{View{}}, scratch{View{}};
  const Weights weights(c, saved);
  needs.saved = saved.used();
  if (c.pass == Pass::forward) return needs;
  const DenseBack back(c, op, scratch);
  needs.scratch = scratch.used();
  return needs;
}

std::unique_ptr<Kernel> forward(Context& x, const Call& c, const Dense& op) {
  Carver saved(c.saved);
  const Weights weights(c, saved);
  const Vectors v = vectors_of(c, op);
  const i64 features = last(c.in[0].shape);
  const bool relu = op.activation == Activation::relu;
  Product p;
  p.b_t = true;
  p.m = v.count();
  p.n = op.units;
  p.k = p.lda = p.ldb = features;
  p.ldc = op.units;
  p.a = c.in[0].data;
  p.b = weights.data[0];
  p.c = c.out[0].data;
  p.in = p.out = v.type;
  p.bias = op.bias ? weights.data[1] : nullptr;
  p.relu = relu;
  return kernel([s = x.stream, weights, product = Matmul(x, p), v, out = p.c,
                 rest = relu ? Activation::none : op.activation] {
    weights.cast(s);
    product.run();
    finish_vectors(s, v, out, nullptr, rest);
  });
}

std::unique_ptr<Kernel> backward(Context& x, const Call& c, const Dense& op) {
  Carver saved(c.saved), scratch(c.scratch);
  const Weights weights(c, saved);
  DenseBack back(c, op, scratch);
  if (op.bias) back.vectors.want_bias(x, c.d_param[1]);
  const Vectors& v = back.vectors.vectors;
  const i64 features = last(c.in[0].shape);
  Product weight;
  weight.a_t = true;
  weight.m = weight.lda = op.units;
  weight.n = weight.ldb = weight.ldc = features;
  weight.k = v.count();
  weight.a = back.vectors.gradient.dz;
  weight.b = c.in[0].data;
  weight.c = c.d_param[0].data;
  weight.beta = 1;
  weight.in = v.type;
  Product input;
  input.m = v.count();
  input.n = input.ldb = input.ldc = features;
  input.k = input.lda = op.units;
  input.a = back.vectors.gradient.dz;
  input.b = weights.data[0];
  input.c = c.d_in[0].data;
  input.beta = c.accumulate[0] ? 1 : 0;
  input.in = input.out = v.type;
  return kernel([s = x.stream, back = back.vectors, weight = Matmul(x, weight),
                 input = input.c ? Matmul(x, input) : Matmul()] {
    back.run(s);
    input.run();
    weight.run();
  });
}

}  // namespace cohort::cuda
