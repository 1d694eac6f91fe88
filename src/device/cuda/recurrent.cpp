// Recurrent layers. The products with the input are one for all steps; then, for small cells, one
// launch of our own for all steps, else a product and a launch for each. Gradients of the weights
// are again one product each for all steps.
#include "device/cuda/matmul.h"
#include "device/cuda/products.h"

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

  Memory(const Call& c, const Recurrent& op, const Layer& l, Carver& saved) : weights(c, saved) {
    r.type = l.type;
    r.rows = rows_of(c);
    r.steps = steps_of(c, 0);
    r.cell = op.cell;
    r.units = static_cast<i32>(op.units);
    r.every_step = op.every_step;
    r.gates = saved.take<float>(l.vectors() * l.sums);
    r.cells = saved.take<float>(op.cell == Cell::lstm ? l.vectors() * l.units : 0);
    r.before = saved.take(l.vectors() * l.units, size_of(l.type));
    r.out = c.out[0].data;
    const float* bias = c.param[2].as<float>();
    r.inner_bias = l.gru && bias ? bias + 3 * l.units : nullptr;
  }
  void add_gradients(const Layer& l, Carver& scratch) {
    r.d_gates = scratch.take(l.vectors() * l.sums, size_of(l.type));
    r.d_state = scratch.take<float>(l.rows * l.units);
    r.d_cell = scratch.take<float>(l.rows * l.units);
  }
};

Vectors sum_vectors(const Call& c, const Layer& l) {
  return {l.type, rows_of(c), l.steps, l.sums, steps_of(c, 0), 1};
}

const char* at(const void* data, i64 index, DType type) {
  return static_cast<const char*>(data) + index * size_of(type);
}
char* at(void* data, i64 index, DType type) {
  return static_cast<char*>(data) + index * size_of(type);
}

// W_hh meets the states in parts that are contiguous among a step's sums: its gates, and of the GRU
// the inner one apart.
struct Part {
  i64 gate, sum, count;         // first row of W_hh, first among the sums, number
};
std::vector<Part> parts_of(const Layer& l) {
  if (!l.gru) return {{0, 0, l.gates}};
  return {{0, 0, 2 * l.units}, {2 * l.units, 3 * l.units, l.units}};
}

using Matmuls = std::vector<Matmul>;
void run(const Matmuls& products) {
  for (const Matmul& product : products) product.run();
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
  p.bias = c.param[2].data;
  return Matmul(x, p);
}

// What the states before step t add to its sums.
Matmuls state_products(Context& x, const Layer& l, const Memory& m, i64 t) {
  Matmuls products;
  for (const Part& part : parts_of(l)) {
    Product p;
    p.b_t = true;
    p.m = l.rows;
    p.n = part.count;
    p.k = p.ldb = l.units;
    p.lda = l.steps * l.units;
    p.ldc = l.steps * l.sums;
    p.a = at(m.r.before, t * l.units, l.type);
    p.b = at(m.weights.data[1], part.gate * l.units, l.type);
    p.c = m.r.gates + t * l.sums + part.sum;
    p.beta = l.gru && part.gate > 0 ? 0 : 1;
    p.in = l.type;
    products.push_back(Matmul(x, p));
  }
  return products;
}

// What the sums of step t send to the state before it.
Matmuls state_gradients(Context& x, const Layer& l, const Memory& m, i64 t) {
  Matmuls products;
  for (const Part& part : parts_of(l)) {
    Product p;
    p.m = l.rows;
    p.n = p.ldb = p.ldc = l.units;
    p.k = part.count;
    p.lda = l.steps * l.sums;
    p.a = at(m.r.d_gates, t * l.sums + part.sum, l.type);
    p.b = at(m.weights.data[1], part.gate * l.units, l.type);
    p.c = m.r.d_state;
    p.beta = 1;
    p.in = l.type;
    products.push_back(Matmul(x, p));
  }
  return products;
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

Matmuls gradients(Context& x, const Call& c, const Layer& l, const Memory& m) {
  Matmuls products;
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

}  // namespace

Needs needs(const Context&, const Call& c, const Recurrent& op) {
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
  const Layer l = layer_of(c, op);
  Carver saved(c.saved);
  const Memory m(c, op, l, saved);
  std::vector<Matmuls> steps;
  for (i64 t = 0; t < l.steps && !is_small(m.r); ++t)
    steps.push_back(t > 0 ? state_products(x, l, m, t) : Matmuls{});
  return kernel([s = x.stream, m, input = input_product(x, c, l, m), steps = std::move(steps),
                 w_hh = c.param[1].as<float>(), processors = x.processors] {
    m.weights.cast(s);
    input.run();
    if (is_small(m.r)) return recurrent_small(s, m.r, w_hh, processors);
    for (std::size_t t = 0; t < steps.size(); ++t) {
      run(steps[t]);
      recurrent_step(s, m.r, static_cast<i32>(t));
    }
  });
}

std::unique_ptr<Kernel> backward(Context& x, const Call& c, const Recurrent& op) {
  const Layer l = layer_of(c, op);
  Carver saved(c.saved), scratch(c.scratch);
  Memory m(c, op, l, saved);
  m.add_gradients(l, scratch);
  m.r.d_out = c.d_out[0].data;
  BackOfVectors bias(c, sum_vectors(c, l), Activation::none, scratch);
  bias.gradient.d_out = m.r.d_gates;
  bias.want_bias(x, c.d_param[2]);
  std::vector<Matmuls> steps;
  for (i64 t = 0; t < l.steps && !is_small(m.r); ++t)
    steps.push_back(t > 0 ? state_gradients(x, l, m, t) : Matmuls{});
  return kernel([s = x.stream, m, bias, steps = std::move(steps),
                 products = gradients(x, c, l, m), w_hh = c.param[1].as<float>(),
                 processors = x.processors] {
    if (is_small(m.r)) recurrent_small_back(s, m.r, w_hh, processors);
    for (std::size_t t = steps.size(); t-- > 0;) {
      recurrent_step_back(s, m.r, static_cast<i32>(t));
      run(steps[t]);
    }
    bias.run(s);
    run(products);
  });
}

}  // namespace cohort::cuda
