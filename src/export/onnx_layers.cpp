// Ops on vectors, and on each step or place alone.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "export/onnx_emit.h"
#include "export/onnx_weights.h"

namespace cohort {

void OnnxEmitter::emit(const Node& node, const Dense& op) {
  const std::string& name = value(node.out[0]).name;
  const std::string x = read(node.in[0]);
  std::string y;
  if (value(node.in[0]).shape.size() == 1) {
    Names in{x, parameter(node, 0)};
    if (op.bias) in.push_back(parameter(node, 1));
    y = writer_.node("Gemm", in, name, {{"transB", i64{1}}});
  } else {   // Gemm takes no steps: the same with the weight transposed
    const View& w = weight(node, 0);
    const i64 units = w.shape[0], width = w.shape[1];
    const OnnxBytes columns =
        floats_of(w, w.count(), [=](i64 i) { return i % units * width + i / units; });
    const std::string turned = writer_.weight(parameter_name(node, 0), {width, units}, columns);
    y = writer_.node("MatMul", {x, turned}, name + "_product");
    if (op.bias) y = writer_.node("Add", {y, parameter(node, 1)}, name);
  }
  set(node.out[0], activated(op.activation, y, name));
}

// The table with a row of zeros behind it, which is what -1 means to Gather.
void OnnxEmitter::emit(const Node& node, const Embedding& op) {
  const std::string name = writer_.weight(parameter_name(node, 0), {op.rows + 1, op.dim},
                                          floats_of(weight(node, 0), op.dim));
  set(node.out[0], writer_.node("Gather", {name, read(node.in[0])}, value(node.out[0]).name));
  if (zeroed_.count(node.in[0])) zeroed_.insert(node.out[0]);
}

void OnnxEmitter::emit(const Node& node, const BatchNorm& op) {
  const i64 in = node.in[0];
  const std::string& name = value(node.out[0]).name;
  const i64 channels = value(in).shape.back();
  Channels layout = layout_of(in);
  std::string y;
  if (value(in).shape.size() == 3) {
    layout = Channels::first;
    y = writer_.node("BatchNormalization",
                     {read(in, layout), parameter(node, 0), parameter(node, 1), parameter(node, 2),
                      parameter(node, 3)},
                     name, {{"epsilon", static_cast<float>(op.epsilon)}});
  } else {
    std::vector<double> scale = numbers(node, 0), shift = numbers(node, 1);
    const std::vector<double> mean = numbers(node, 2), variance = numbers(node, 3);
    for (std::size_t c = 0; c < scale.size(); ++c) {
      scale[c] /= std::sqrt(variance[c] + op.epsilon);
      shift[c] -= mean[c] * scale[c];
    }
    const Shape shape = layout == Channels::first ? Shape{channels, 1} : Shape{channels};
    y = writer_.node("Mul", {read(in, layout), writer_.floats(name + ".scale", shape, scale)},
                     name + "_scaled");
    y = writer_.node("Add", {y, writer_.floats(name + ".shift", shape, shift)}, name);
  }
  set(node.out[0], activated(op.activation, y, name), layout);
}

void OnnxEmitter::emit(const Node& node, const Dropout&) { alias(node.out[0], node.in[0]); }

void OnnxEmitter::emit(const Node& node, const Activate& op) {
  if (op.activation == Activation::none) return alias(node.out[0], node.in[0]);
  const Channels layout = layout_of(node.in[0]);
  const std::string x = read(node.in[0], layout);
  set(node.out[0], activated(op.activation, x, value(node.out[0]).name), layout);
}

void OnnxEmitter::emit(const Node& node, const Concat&) {
  const Channels layout = layout_of(node.in[0]);
  Names in;
  for (i64 v : node.in) in.push_back(read(v, layout));
  const i64 rank = static_cast<i64>(value(node.in[0]).shape.size()) + 1;
  const i64 axis = layout == Channels::first ? 1 : rank - 1;
  set(node.out[0], writer_.node("Concat", in, value(node.out[0]).name, {{"axis", axis}}), layout);
  if (std::all_of(node.in.begin(), node.in.end(), [&](i64 v) { return zeroed_.count(v) > 0; }))
    zeroed_.insert(node.out[0]);
}

void OnnxEmitter::emit(const Node& node, const Dot&) {
  const std::string& name = value(node.out[0]).name;
  const std::string product =
      writer_.node("Mul", {read(node.in[0]), read(node.in[1])}, name + "_products");
  set(node.out[0], writer_.node("ReduceSum", {product, writer_.integers({1})}, name,
                                {{"keepdims", i64{1}}}));
}

void OnnxEmitter::emit(const Node& node, const Add& op) {
  const Channels layout = layout_of(node.in[0]);
  const std::string& name = value(node.out[0]).name;
  std::string sum = read(node.in[0], layout);
  for (std::size_t k = 1; k < node.in.size(); ++k)
    sum = writer_.node("Add", {sum, read(node.in[k], layout)}, name);
  set(node.out[0], activated(op.activation, sum, name), layout);
}

void OnnxEmitter::emit(const Node& node, const Flatten&) {
  if (value(node.in[0]).shape.size() == 1) return alias(node.out[0], node.in[0]);
  set(node.out[0], writer_.node("Flatten", {read(node.in[0])}, value(node.out[0]).name));
}

void OnnxEmitter::emit(const Node&, const Loss&) {}   // see emit_heads()

}  // namespace cohort
