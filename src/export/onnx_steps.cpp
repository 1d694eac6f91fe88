// Ops along a sequence.
#include <limits>

#include "base/error.h"
#include "export/onnx_emit.h"
#include "export/onnx_weights.h"

namespace cohort {

// Rows of a recurrent parameter, [blocks * units, ...], in the order of ONNX; -1 stands for zeros.
std::string OnnxEmitter::gates(const Node& node, std::size_t k, const std::vector<i64>& blocks,
                               i64 units) {
  const View& view = weight(node, k);
  const i64 block = view.count() / view.shape[0] * units;
  Shape shape{1, static_cast<i64>(blocks.size()) * units};
  if (view.shape.size() > 1) shape.push_back(view.shape[1]);
  return writer_.weight(parameter_name(node, k), shape,
                        floats_of(view, count(shape), [blocks, block](i64 i) {
                          const i64 b = blocks[static_cast<std::size_t>(i / block)];
                          return b < 0 ? -1 : b * block + i % block;
                        }));
}

void OnnxEmitter::emit(const Node& node, const Recurrent& op) {
  const i64 in = node.in[0];
  const std::string& name = value(node.out[0]).name;
  // Gates: ours i, f, g, o and r, z, n; of ONNX i, o, f, g and z, r, n. Biases: with the input,
  // then with the state; of our GRU the fourth is the only one with the state.
  std::vector<i64> order{0}, biases{0, -1};
  if (op.cell == Cell::lstm) order = {0, 3, 1, 2}, biases = {0, 3, 1, 2, -1, -1, -1, -1};
  if (op.cell == Cell::gru) order = {1, 0, 2}, biases = {1, 0, 2, -1, -1, 3};
  std::string lengths;
  if (ragged(in)) lengths = valid_steps_of(value(in));
  if (may_be_empty(value(in)))   // engines differ in what they make of rows without steps
    lengths = writer_.node("Max", {lengths, writer_.number(DType::i32, 1)}, name + "_steps");
  const std::string x =
      writer_.node("Transpose", {read(in)}, name + "_steps_first",
                   {{"perm", std::vector<i64>{1, 0, 2}}});
  const Names operands{x, gates(node, 0, order, op.units), gates(node, 1, order, op.units),
                       gates(node, 2, biases, op.units), lengths};
  OnnxAttributes attributes{{"hidden_size", op.units}};
  if (op.cell == Cell::gru) attributes.push_back({"linear_before_reset", i64{1}});
  const char* kind = op.cell == Cell::lstm ? "LSTM" : op.cell == Cell::gru ? "GRU" : "RNN";
  const std::string states = writer_.unique(name + (op.every_step ? "_states" : "_state"));
  writer_.node_as(kind, operands, op.every_step ? Names{states} : Names{"", states}, attributes);
  if (op.every_step) {   // [T, 1, N, H]
    const std::string steps =
        writer_.node("Squeeze", {states, writer_.integers({1})}, name + "_by_step");
    return set(node.out[0], writer_.node("Transpose", {steps}, name,
                                         {{"perm", std::vector<i64>{1, 0, 2}}}));
  }
  const std::string last = writer_.node("Squeeze", {states, writer_.integers({0})}, name);
  set(node.out[0], or_zeros(value(in), last));
}

// Of a ragged sequence the result has as many steps as the input: those behind the valid ones are
// there so that any T is enough for one result, and never looked at.
void OnnxEmitter::emit(const Node& node, const Conv1d& op) {
  const i64 in = node.in[0];
  const std::string& name = value(node.out[0]).name;
  const i64 channels = value(in).shape[1], width = op.width;
  const View& view = weight(node, 0);   // [filters, width, channels]
  const std::string weights = writer_.weight(
      parameter_name(node, 0), {op.filters, channels, width},
      floats_of(view, view.count(), [=](i64 i) {
        return (i / width / channels * width + i % width) * channels + i / width % channels;
      }));
  OnnxAttributes attributes{{"kernel_shape", std::vector<i64>{op.width}}};
  if (ragged(in)) attributes.push_back({"pads", std::vector<i64>{0, op.width - 1}});
  std::string x = read(in, Channels::first);
  if (!zeroed_.count(in)) x = masked(value(in), x, Channels::first, 0);
  std::string y = writer_.node("Conv", {x, weights, parameter(node, 1)}, name, attributes);
  y = activated(op.activation, y, name);
  if (!op.max_over_time) return set(node.out[0], y, Channels::first);
  Value inner = value(in);   // the steps before the pool
  if (ragged(in)) inner.shrink += op.width - 1;
  set(node.out[0], largest_step(inner, y, Channels::first, name));
}

std::string OnnxEmitter::largest_step(const Value& ruled, const std::string& in, Channels layout,
                                      const std::string& name) {
  const i64 axis = layout == Channels::first ? 2 : 1;
  const std::string x = masked(ruled, in, layout, -std::numeric_limits<double>::infinity());
  return or_zeros(ruled, writer_.node("ReduceMax", {x}, name, {{"axes", std::vector<i64>{axis}},
                                                               {"keepdims", i64{0}}}));
}

void OnnxEmitter::emit(const Node& node, const MaxOverTime&) {
  const i64 in = node.in[0];
  const Channels layout = layout_of(in);
  set(node.out[0],
      largest_step(value(in), read(in, layout), layout, value(node.out[0]).name));
}

}  // namespace cohort
