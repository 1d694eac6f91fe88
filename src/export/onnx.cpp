#include "export/onnx.h"

#include <onnx/checker.h>
#include <onnx/shape_inference/implementation.h>

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>

#include "base/error.h"
#include "export/onnx_emit.h"

namespace cohort {
namespace {

i64 ir_of(i64 opset) {
  if (opset == 13) return 7;
  if (opset == 17) return 8;
  fail(Exit::usage, "ONNX model: expected opset 13 or 17, got {}; 13 suits every engine", opset);
}

bool same(const onnx::TensorShapeProto::Dimension& dim, const std::string& expected) {
  if (dim.has_dim_value()) return std::to_string(dim.dim_value()) == expected;
  return dim.dim_param() == expected;
}

// The checker looks for the data file, which is not there yet: its weights as inputs instead.
void check_without_data(const onnx::ModelProto& model) {
  onnx::ModelProto copy = model;
  onnx::GraphProto& graph = *copy.mutable_graph();
  graph.clear_initializer();
  for (const onnx::TensorProto& tensor : model.graph().initializer()) {
    if (tensor.data_location() != onnx::TensorProto::EXTERNAL) {
      *graph.add_initializer() = tensor;
      continue;
    }
    onnx::ValueInfoProto& input = *graph.add_input();
    input.set_name(tensor.name());
    auto& type = *input.mutable_type()->mutable_tensor_type();
    type.set_elem_type(tensor.data_type());
    for (const auto extent : tensor.dims()) type.mutable_shape()->add_dim()->set_dim_value(extent);
  }
  onnx::checker::check_model(copy);
}

// The checker, strict inference of every shape, and that N reaches the outputs as a symbol.
void check(onnx::ModelProto& model, const OnnxWriter& made, i64 opset) {
  COHORT_CHECK(opset <= 17 && model.ir_version() <= 8, "an ONNX version that engines may not know");
  auto& graph = *model.mutable_graph();
  try {
    if (made.external.empty())
      onnx::checker::check_model(model);
    else
      check_without_data(model);
    for (auto& output : *graph.mutable_output())
      output.mutable_type()->mutable_tensor_type()->clear_shape();
    onnx::shape_inference::InferShapes(model, onnx::OpSchemaRegistry::Instance(), {true, 1, false});
  } catch (const std::exception& e) {
    broken(__FILE__, __LINE__, std::string("the ONNX model is not valid: ") + e.what());
  }
  for (int k = 0; k < graph.output_size(); ++k) {
    auto& shape = *graph.mutable_output(k)->mutable_type()->mutable_tensor_type()->mutable_shape();
    const std::vector<std::string>& dims = made.outputs[static_cast<std::size_t>(k)].dims;
    const std::string where = "the inferred shape of ONNX output " + graph.output(k).name() + ": " +
                              shape.ShortDebugString();
    COHORT_CHECK(shape.dim_size() == static_cast<int>(dims.size()), where);
    for (int d = 0; d < shape.dim_size(); ++d)
      COHORT_CHECK(same(shape.dim(d), dims[static_cast<std::size_t>(d)]), where);
  }
  graph.clear_value_info();   // what inference found; readers find it themselves
}

std::string bytes_of(const onnx::ModelProto& model) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream out(&stream);
  out.SetSerializationDeterministic(true);
  COHORT_CHECK(model.SerializeToCodedStream(&out), "an ONNX model that cannot be serialised");
  out.Trim();
  return bytes;
}

// Inputs of the graph that a value depends on, sorted.
std::vector<i64> inputs_of(const Graph& graph, const std::vector<i64>& values, i64 without) {
  std::vector<bool> needed(graph.values.size(), false);
  for (i64 v : values) needed[static_cast<std::size_t>(v)] = true;
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    if (node->out.empty() || node->out[0] == without) continue;
    if (!needed[static_cast<std::size_t>(node->out[0])]) continue;
    for (i64 v : node->in) needed[static_cast<std::size_t>(v)] = true;
  }
  std::vector<i64> found;
  for (i64 k = 0; const Input& input : graph.inputs) {
    if (needed[static_cast<std::size_t>(input.value)]) found.push_back(k);
    ++k;
  }
  return found;
}

}  // namespace

OnnxModel to_onnx_part(const Graph& graph, const std::vector<NamedView>& weights,
                       const OnnxPart& part, const OnnxOptions& options) {
  onnx::ModelProto model;
  model.set_ir_version(ir_of(options.opset));
  model.set_producer_name("cohort");
  model.set_producer_version(options.producer_version);
  auto& opset = *model.add_opset_import();
  opset.set_domain("");
  opset.set_version(options.opset);
  OnnxEmitter emitter(graph, weights, part, options);
  OnnxWriter& writer = emitter.run();
  model.mutable_graph()->Swap(&writer.graph());
  check(model, writer, options.opset);
  return {bytes_of(model), writer.inputs, writer.outputs, data_file_of(options),
          std::move(writer.external)};
}

OnnxModel to_onnx(const Graph& graph, const std::vector<NamedView>& weights,
                  const OnnxOptions& options) {
  return to_onnx_part(graph, weights, {}, options);
}

std::optional<Towers> towers_of(const Graph& graph) {
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    if (!std::holds_alternative<Dot>(node->op)) continue;
    const i64 dot = node->out[0];
    const auto all = inputs_of(graph, {graph.prediction}, -1);
    Towers towers{node->in[0], node->in[1], inputs_of(graph, {node->in[0]}, -1),
                  inputs_of(graph, {node->in[1]}, -1)};
    std::vector<i64> both;
    std::set_union(towers.user_inputs.begin(), towers.user_inputs.end(),
                   towers.item_inputs.begin(), towers.item_inputs.end(), std::back_inserter(both));
    const bool apart = both.size() == towers.user_inputs.size() + towers.item_inputs.size();
    const bool only_way = inputs_of(graph, {graph.prediction}, dot).empty();
    if (apart && only_way && both == all) return towers;
  }
  return std::nullopt;
}

TowerModels to_onnx_towers(const Graph& graph, const Towers& towers,
                           const std::vector<NamedView>& weights, const OnnxOptions& options) {
  const auto part = [&](const OnnxPart& ends, const char* file) {
    OnnxOptions named = options;
    named.file = file;
    return to_onnx_part(graph, weights, ends, named);
  };
  return {part({{}, {{towers.user, "vector"}}}, "user_tower.onnx"),
          part({{}, {{towers.item, "vector"}}}, "item_tower.onnx"),
          part({{{towers.user, "user_vector"}, {towers.item, "item_vector"}}, {}}, "scorer.onnx")};
}

}  // namespace cohort
