// Ops on images, channels first.
#include "base/error.h"
#include "export/onnx_emit.h"

namespace cohort {
namespace {

OnnxAttributes window(i64 size, i64 stride, i64 padding) {
  OnnxAttributes attributes{{"kernel_shape", std::vector<i64>{size, size}},
                            {"strides", std::vector<i64>{stride, stride}}};
  if (padding) attributes.push_back({"pads", std::vector<i64>(4, padding)});
  return attributes;
}

}  // namespace

std::string OnnxEmitter::image(const Node& node) {
  if (ragged(node.in[0]))
    fail(Exit::usage, "ONNX model: {}: layer '{}' ({}) reads a sequence as an image; expected "
         "pictures of fixed size; such a model cannot be exported", node.place, node.name,
         kind_of(node.op));
  return read(node.in[0], Channels::first);
}

void OnnxEmitter::emit(const Node& node, const Conv2d& op) {
  const std::string& name = value(node.out[0]).name;
  const i64 channels = weight(node, 0).shape[3], places = op.kernel * op.kernel;
  const std::vector<double> from = numbers(node, 0);   // [filters, places, channels of a group]
  std::vector<double> to(from.size());
  for (std::size_t i = 0; i < from.size(); ++i) {
    const auto c = static_cast<i64>(i) % channels, place = static_cast<i64>(i) / channels % places;
    const i64 f = static_cast<i64>(i) / channels / places;
    to[static_cast<std::size_t>((f * channels + c) * places + place)] = from[i];
  }
  Names in{image(node), writer_.floats(parameter_name(node, 0),
                                       {op.filters, channels, op.kernel, op.kernel}, to)};
  if (op.bias) in.push_back(parameter(node, 1));
  OnnxAttributes attributes = window(op.kernel, op.stride, op.padding);
  if (op.groups > 1) attributes.push_back({"group", op.groups});
  std::string y = activated(op.activation, writer_.node("Conv", in, name, attributes), name);
  if (op.pool) y = writer_.node("MaxPool", {y}, name, window(op.pool, op.pool, 0));
  set(node.out[0], y, Channels::first);
}

void OnnxEmitter::emit(const Node& node, const MaxPool2d& op) {
  set(node.out[0],
      writer_.node("MaxPool", {image(node)}, value(node.out[0]).name,
                   window(op.size, op.stride, op.padding)),
      Channels::first);
}

void OnnxEmitter::emit(const Node& node, const AvgPool2d& op) {
  set(node.out[0],
      writer_.node("AveragePool", {image(node)}, value(node.out[0]).name,
                   window(op.size, op.stride, 0)),
      Channels::first);
}

void OnnxEmitter::emit(const Node& node, const GlobalAvgPool&) {
  const std::string& name = value(node.out[0]).name;
  const std::string mean = writer_.node("GlobalAveragePool", {image(node)}, name + "_mean");
  set(node.out[0], writer_.node("Flatten", {mean}, name));
}

}  // namespace cohort
