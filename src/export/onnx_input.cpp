// Fields as the graph sees them, and which steps of a ragged one are there.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "export/onnx_emit.h"

namespace cohort {
namespace {

// Numbers that float32 would lose before they are centred: whole ones, and those far from 0
// compared with their spread.
bool needs_double(DType raw, const Ingest& op) {
  if (raw == DType::f64 || raw == DType::i64 || raw == DType::i32) return true;
  for (std::size_t c = 0; c < op.mean.size(); ++c)
    if (std::abs(op.mean[c] * op.inv_std[c]) > 16) return true;
  return false;
}

}  // namespace

// Inputs that read one field are one input of the model if they are cut alike.
std::string OnnxEmitter::field_name(i64 index) const {
  const Input& input = graph_.inputs[static_cast<std::size_t>(index)];
  for (const Input& other : graph_.inputs) {
    if (&other == &input) break;
    if (other.field == input.field && other.shape != input.shape)
      return value(input.value).name;
  }
  return input.field;
}

void OnnxEmitter::emit(const Node& node, const Ingest& op) {
  const i64 v = node.out[0];
  const auto input = std::find_if(graph_.inputs.begin(), graph_.inputs.end(),
                                  [&](const Input& i) { return i.value == v; });
  COHORT_CHECK(input != graph_.inputs.end(), "an ingest without a field");
  std::string x = field_name(input - graph_.inputs.begin());
  if (!value(v).integer) x = normalised(*input, op);
  if (input->ragged) {
    x = masked_input(*input, x, value(v).integer);
    zeroed_.insert(v);
  }
  set(v, x);
}

std::string OnnxEmitter::normalised(const Input& input, const Ingest& op) {
  const std::string& name = value(input.value).name;
  std::string x = field_name(&input - graph_.inputs.data());
  if (value(input.value).shape.size() > input.shape.size())   // a number is a vector of one
    x = writer_.node("Unsqueeze", {x, writer_.integers({-1})}, name + "_column");
  const bool plain = op.mean.empty() && op.scale == 1;
  const DType type = !plain && needs_double(input.dtype, op) ? DType::f64 : DType::f32;
  const auto cast = [&](DType to) {
    x = writer_.node("Cast", {x}, name + "_as_" + name_of(to), {{"to", onnx_type(to)}});
  };
  const auto vector = [&](const char* what, const std::vector<double>& values) {
    const std::vector<char> bytes = from_doubles(type, values);
    return writer_.constant(name + what, type, {static_cast<i64>(values.size())},
                            {bytes.begin(), bytes.end()});
  };
  if (input.dtype != type) cast(type);
  if (op.scale != 1)
    x = writer_.node("Mul", {x, writer_.number(type, op.scale)}, name + "_scaled");
  if (!op.mean.empty()) {
    x = writer_.node("Sub", {x, vector("_mean", op.mean)}, name + "_centred");
    x = writer_.node("Mul", {x, vector("_inv_std", op.inv_std)}, name + "_normalised");
  }
  if (type != DType::f32) cast(DType::f32);
  return x;
}

std::string OnnxEmitter::masked_input(const Input& input, const std::string& in, bool ids) {
  const i64 rank = static_cast<i64>(value(input.value).shape.size()) + 1;
  const std::string fill =
      ids ? writer_.number(input.dtype, -1) : writer_.number(DType::f32, 0);
  return writer_.node("Where", {mask(value(input.value), Channels::last, rank), in, fill},
                      value(input.value).name);
}

std::string OnnxEmitter::valid_steps_of(const Value& v) {
  std::string& name = valid_steps_[{v.lengths, v.shrink}];
  if (!name.empty()) return name;
  const std::string lengths = lengths_name(v.lengths);
  if (v.shrink == 0) return name = lengths;
  const std::string fewer = writer_.node(
      "Sub", {lengths, writer_.number(DType::i32, static_cast<double>(v.shrink))},
      lengths + "_less");
  return name = writer_.node("Max", {fewer, writer_.number(DType::i32, 1)}, lengths + "_valid");
}

std::string OnnxEmitter::has_steps(const Value& v) {
  std::string& name = masks_[{v.lengths, -1, {}}];
  if (!name.empty()) return name;
  const std::string any = writer_.node(
      "Greater", {lengths_name(v.lengths), writer_.number(DType::i32, 0)}, "any_step");
  return name = writer_.node("Unsqueeze", {any, writer_.integers({1})}, "has_steps");
}

std::string OnnxEmitter::mask(const Value& v, Channels layout, i64 rank) {
  std::vector<i64> axes;
  if (layout == Channels::first) axes.push_back(1);
  for (i64 axis = 2; layout == Channels::last && axis < rank; ++axis) axes.push_back(axis);
  std::string& name = masks_[{v.lengths, v.shrink, axes}];
  if (!name.empty()) return name;
  if (!axes.empty()) {
    const std::string flat = mask(v, Channels::last, 2);
    return name = writer_.node("Unsqueeze", {flat, writer_.integers(axes)}, "mask");
  }
  std::string& steps = masks_[{v.lengths, -2, {}}];   // [T]: 0, 1, ..
  if (steps.empty()) {
    const std::string shape = writer_.node("Shape", {field_name(v.lengths)}, "shape");
    const std::string count =
        writer_.node("Gather", {shape, writer_.number(DType::i64, 1)}, "steps");
    steps = writer_.node(
        "Range", {writer_.number(DType::i64, 0), count, writer_.number(DType::i64, 1)}, "step");
  }
  const std::string wide = writer_.node("Cast", {valid_steps_of(v)}, "valid_steps",
                                        {{"to", onnx_type(DType::i64)}});
  const std::string column =
      writer_.node("Unsqueeze", {wide, writer_.integers({1})}, "valid_column");
  return name = writer_.node("Less", {steps, column}, "mask");
}

std::string OnnxEmitter::or_zeros(const Value& v, const std::string& in) {
  if (!may_be_empty(v)) return in;
  return writer_.node("Where", {has_steps(v), in, writer_.number(DType::f32, 0)}, in + "_or_zeros");
}

std::string OnnxEmitter::masked(const Value& v, const std::string& in, Channels layout,
                                double fill) {
  if (v.lengths < 0) return in;
  const i64 rank = static_cast<i64>(v.shape.size()) + 1;
  return writer_.node("Where", {mask(v, layout, rank), in, writer_.number(DType::f32, fill)},
                      in + "_masked");
}

}  // namespace cohort
