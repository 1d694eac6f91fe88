// Ops on images, channels first.
#include "base/error.h"
#include "export/onnx_emit.h"
#include "export/onnx_weights.h"

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
  const View& view = weight(node, 0);   // [filters, places, channels of a group]
  const i64 channels = view.shape[3], places = op.kernel * op.kernel;
  const OnnxBytes weights = floats_of(view, view.count(), [=](i64 i) {
    return (i / places / channels * places + i % places) * channels + i / places % channels;
  });
  Names in{image(node), writer_.weight(parameter_name(node, 0),
                                       {op.filters, channels, op.kernel, op.kernel}, weights)};
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
