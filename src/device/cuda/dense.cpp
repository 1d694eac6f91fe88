// dense: a product with bias (and ReLU) fused; other activations, and zeros where nothing is valid,
// by a kernel after it.
#include "device/cuda/matmul.h"
#include "device/cuda/products.h"

namespace cohort::cuda {
namespace {

DenseShape shape_of(const Call& c, const Dense& op) {
  Vectors v;
  v.type = c.in[0].dtype;
  v.rows = rows_of(c);
  v.per_row = row_size(c.in[0]) / last(c.in[0].shape);
  v.width = op.units;
  v.steps = steps_of(c, 0);
  if (c.in[0].shape.size() < 3) v.steps.lengths = nullptr;
  if (v.steps.lengths) v.per_step = v.per_row / v.steps.capacity;
  return {v, last(c.in[0].shape), op.bias, op.activation};
}

struct DenseBack {
  BackOfVectors vectors;
  DenseBack(const Call& c, const DenseShape& d, Carver& scratch)
      : vectors(c, d.vectors, d.activation, scratch) {
    vectors.want_dz(scratch.take(d.vectors.count() * d.vectors.width, size_of(d.vectors.type)));
  }
};

Product product_of(const DenseShape& d, const Call& c, const Weights& weights) {
  const i64 units = d.vectors.width;
  Product p;
  p.b_t = true;
  p.m = d.vectors.count();
  p.n = p.ldc = units;
  p.k = p.lda = p.ldb = d.features;
  p.a = c.in[0].data;
  p.b = weights.data[0];
  p.c = c.out[0].data;
  p.in = p.out = d.vectors.type;
  p.bias = d.bias ? weights.data[1] : nullptr;
  p.relu = d.activation == Activation::relu;
  return p;
}

Product weight_gradient(const DenseShape& d, const Call& c, const void* dz) {
  Product p;
  p.a_t = true;
  p.m = p.lda = d.vectors.width;
  p.n = p.ldb = p.ldc = d.features;
  p.k = d.vectors.count();
  p.a = dz;
  p.b = c.in[0].data;
  p.c = c.d_param[0].data;
  p.beta = 1;
  p.in = d.vectors.type;
  return p;
}

Product input_gradient(const DenseShape& d, const Call& c, const Weights& weights,
                       const void* dz) {
  Product p;
  p.m = d.vectors.count();
  p.n = p.ldb = p.ldc = d.features;
  p.k = p.lda = d.vectors.width;
  p.a = dz;
  p.b = weights.data[0];
  p.c = c.d_in[0].data;
  p.beta = c.accumulate[0] ? 1 : 0;
  p.in = p.out = d.vectors.type;
  return p;
}

}  // namespace

Needs dense_needs(const Call& c, const DenseShape& d) {
  Needs needs;
  Carver saved{View{}}, scratch{View{}};
  const Weights weights(c, saved, c.param.size());
  needs.saved = saved.used();
  if (c.pass == Pass::forward) return needs;
  const DenseBack back(c, d, scratch);
  needs.scratch = scratch.used();
  return needs;
}

std::unique_ptr<Kernel> dense_forward(Context& x, const Call& c, const DenseShape& d) {
  Carver saved(c.saved);
  const Weights weights(c, saved, c.param.size());
  const Product p = product_of(d, c, weights);
  Matmul product(x, p);
  const float* bias = d.bias && !product.finishes() ? c.param[1].as<float>() : nullptr;
  const bool done = product.finishes() && (p.relu || d.activation == Activation::none);
  const Activation rest = done ? Activation::none : d.activation;
  const bool zeros = done && !d.bias && !d.vectors.steps.lengths;   // as the input has
  return kernel([s = x.stream, weights, product = std::move(product), v = d.vectors, out = p.c, bias,
                 rest, zeros] {
    weights.cast(s);
    product.run();
    if (!zeros) finish_vectors(s, v, out, bias, rest);
  });
}

std::unique_ptr<Kernel> dense_backward(Context& x, const Call& c, const DenseShape& d) {
  Carver saved(c.saved), scratch(c.scratch);
  const Weights weights(c, saved, c.param.size());
  DenseBack back(c, d, scratch);
  if (d.bias) back.vectors.want_bias(x, c.d_param[1]);
  const void* dz = back.vectors.dz;
  return kernel([s = x.stream, back = back.vectors,
                 weight = Matmul(x, weight_gradient(d, c, dz)),
                 input = c.d_in[0].data ? Matmul(x, input_gradient(d, c, weights, dz)) : Matmul()] {
    back.run(s);
    input.run();
    weight.run();
  });
}

Needs needs(const Context&, const Call& c, const Dense& op) {
  return dense_needs(c, shape_of(c, op));
}
std::unique_ptr<Kernel> forward(Context& x, const Call& c, const Dense& op) {
  return dense_forward(x, c, shape_of(c, op));
}
std::unique_ptr<Kernel> backward(Context& x, const Call& c, const Dense& op) {
  return dense_backward(x, c, shape_of(c, op));
}

}  // namespace cohort::cuda
