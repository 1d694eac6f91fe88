// Recurrent layers: large ones by cuDNN. Of small ones the products with the input are one for all
// steps, then comes one launch of our own for all steps; gradients of the weights are again one
// product each.
#include "device/cuda/matmul.h"
#include "device/cuda/recurrent.h"

namespace cohort::cuda {
namespace {

struct Layer {
  i64 rows, steps, features, units;
  i64 gates;                    // rows of W_ih and W_hh
  i64 sums;                     // values of a step: the GRU's inner sums come last
  bool gru;
  DType type;
  i64 vectors() const { return rows * steps; }
};

Layer layer_of(const Call& c, const Recurrent& op) {
  Layer l{};
  l.rows = c.rows;
  l.steps = c.in[0].shape[1];
  l.features = last(c.in[0].shape);
  l.units = op.units;
  l.gates = gates_of(op.cell) * op.units;
  l.sums = biases_of(op.cell) * op.units;
  l.gru = op.cell == Cell::gru;
  l.type = c.in[0].dtype;
  return l;
}

struct Memory {
  Weights weights;
  Recurrence r;

  Memory(const Call& c, const Recurrent& op, const Layer& l, Carver& saved)
      : weights(c, saved, 1), r(recurrence_of(c, op)) {
    r.gates = saved.take<float>(l.vectors() * l.sums);
    r.cells = saved.take<float>(op.cell == Cell::lstm ? l.vectors() * l.units : 0);
    r.before = saved.take(l.vectors() * l.units, size_of(l.type));
    r.bias = c.param[2].as<float>();
    r.inner_bias = l.gru && r.bias ? r.bias + 3 * l.units : nullptr;
  }
  void add_gradients(const Layer& l, Carver& scratch) {
    r.d_gates = scratch.take(l.vectors() * l.sums, size_of(l.type));
  }
};

Vectors sum_vectors(const Call& c, const Layer& l) {
  return {l.type, rows_of(c), l.steps, l.sums, steps_of(c, 0), 1};
}

const char* at(const void* data, i64 index, DType type) {
  return static_cast<const char*>(data) + index * size_of(type);
}

// Rows of W_hh that are contiguous among a step's sums: all gates, but the GRU's inner one apart.
struct Part {
  i64 gate, sum, count;         // first row of W_hh, first among the sums, number
};
std::vector<Part> parts_of(const Layer& l) {
  if (!l.gru) return {{0, 0, l.gates}};
  return {{0, 0, 2 * l.units}, {2 * l.units, 3 * l.units, l.units}};
}

Matmul input_product(Context& x, const Call& c, const Layer& l, const Memory& m) {
  Product p;
  p.b_t = true;
  p.m = l.vectors();
  p.n = l.gates;
  p.k = p.lda = p.ldb = l.features;
  p.ldc = l.sums;
  p.a = c.in[0].data;
  p.b = m.weights.data[0];
  p.c = m.r.gates;
  p.in = l.type;
  return Matmul(x, p);
}

// d_weight [count, width] += d_gates^T values, over all steps.
Product weight_gradient(const Layer& l, const Memory& m, i64 sum, i64 count, const void* values,
                        i64 width, float* d_weight) {
  Product p;
  p.a_t = true;
  p.m = count;
  p.n = p.ldb = p.ldc = width;
  p.k = l.vectors();
  p.lda = l.sums;
  p.a = at(m.r.d_gates, sum, l.type);
  p.b = values;
  p.c = d_weight;
  p.beta = 1;
  p.in = l.type;
  return p;
}

std::vector<Matmul> gradients(Context& x, const Call& c, const Layer& l, const Memory& m) {
  std::vector<Matmul> products;
  float* d_ih = c.d_param[0].as<float>();
  float* d_hh = c.d_param[1].as<float>();
  products.push_back(
      Matmul(x, weight_gradient(l, m, 0, l.gates, c.in[0].data, l.features, d_ih)));
  for (const Part& part : parts_of(l))
    products.push_back(Matmul(x, weight_gradient(l, m, part.sum, part.count, m.r.before, l.units,
                                                 d_hh + part.gate * l.units)));
  if (!c.d_in[0].data) return products;
  Product p;
  p.m = l.vectors();
  p.n = p.ldb = p.ldc = l.features;
  p.k = l.gates;
  p.lda = l.sums;
  p.a = m.r.d_gates;
  p.b = m.weights.data[0];
  p.c = c.d_in[0].data;
  p.beta = c.accumulate[0] ? 1 : 0;
  p.in = p.out = l.type;
  products.push_back(Matmul(x, p));
  return products;
}

bool is_for_dnn(const Call& c, const Recurrent& op) { return !is_small(recurrence_of(c, op)); }

}  // namespace

Needs needs(const Context& x, const Call& c, const Recurrent& op) {
  if (is_for_dnn(c, op)) return dnn_recurrent_needs(x, c, op);
  Needs needs;
  const Layer l = layer_of(c, op);
  Carver saved{View{}}, scratch{View{}};
  Memory m(c, op, l, saved);
  needs.saved = saved.used();
  if (c.pass == Pass::forward) return needs;
  m.add_gradients(l, scratch);
  const BackOfVectors bias(c, sum_vectors(c, l), Activation::none, scratch);
  needs.scratch = scratch.used();
  return needs;
}

std::unique_ptr<Kernel> forward(Context& x, const Call& c, const Recurrent& op) {
  if (is_for_dnn(c, op)) return dnn_recurrent_forward(x, c, op);
  const Layer l = layer_of(c, op);
  Carver saved(c.saved);
  const Memory m(c, op, l, saved);
  return kernel([s = x.stream, m, input = input_product(x, c, l, m),
                 w_hh = c.param[1].as<float>(), processors = x.processors] {
    m.weights.cast(s);
    input.run();
    recurrent_small(s, m.r, w_hh, processors);
  });
}

std::unique_ptr<Kernel> backward(Context& x, const Call& c, const Recurrent& op) {
  if (is_for_dnn(c, op)) return dnn_recurrent_backward(x, c, op);
  const Layer l = layer_of(c, op);
  Carver saved(c.saved), scratch(c.scratch);
  Memory m(c, op, l, saved);
  m.add_gradients(l, scratch);
  m.r.d_out = c.d_out[0].data;
  BackOfVectors bias(c, sum_vectors(c, l), Activation::none, scratch);
  bias.gradient.d_out = m.r.d_gates;
  bias.want_bias(x, c.d_param[2]);
  return kernel([s = x.stream, m, bias, products = gradients(x, c, l, m),
                 w_hh = c.param[1].as<float>(), processors = x.processors] {
    recurrent_small_back(s, m.r, w_hh, processors);
    bias.run(s);
    for (const Matmul& product : products) product.run();
  });
}

}  // namespace cohort::cuda
