#include "export/onnx_emit.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "export/onnx_weights.h"

namespace cohort {
namespace {

// What a protobuf message may hold, with room for the nodes.
constexpr i64 kLargest = (i64{1} << 31) - (i64{1} << 20);

}  // namespace

OnnxEmitter::OnnxEmitter(const Graph& graph, const std::vector<NamedView>& weights,
                         const OnnxPart& part, const OnnxOptions& options)
    : graph_(graph), weights_(weights), part_(part), options_(options) {
  writer_.graph().set_name("cohort");
}

OnnxWriter& OnnxEmitter::run() {
  if (part_.to.empty() && answers_every_step()) answer_last_step();
  find_needed();
  place_weights();
  declare_inputs();
  declare_outputs();
  for (const Node& node : graph_.nodes) {
    if (node.out.empty() || !needed_[static_cast<std::size_t>(node.out[0])]) continue;
    if (values_.count(node.out[0]) == 0) emit_node(node);
    if (node.out[0] == last_step_.of) set(last_step_.value, last_step(last_step_.of));
  }
  if (part_.to.empty()) emit_heads();
  for (const OnnxEnd& end : part_.to)
    writer_.node_as("Identity", {read(end.value)}, {end.name});
  return writer_;
}

void OnnxEmitter::emit_node(const Node& node) {
  std::visit([&](const auto& op) { emit(node, op); }, node.op);
}

// The last ops of a model that answers every step see each step alone, so that they need the last
// one only: their values lose the dimension of steps.
void OnnxEmitter::answer_last_step() {
  std::vector<Node*> tail;   // from the prediction backwards
  i64 first = graph_.prediction;
  for (auto node = graph_.nodes.rbegin(); node != graph_.nodes.rend(); ++node) {
    const bool alone = std::holds_alternative<Dense>(node->op) ||
                       std::holds_alternative<BatchNorm>(node->op) ||
                       std::holds_alternative<Activate>(node->op) ||
                       std::holds_alternative<Dropout>(node->op);
    if (node->out.empty() || node->out[0] != first || !alone) continue;
    tail.push_back(&*node);
    first = node->in[0];
  }
  const auto shorten = [&](i64 v) {
    const Value& old = value(v);
    COHORT_CHECK(old.shape.size() == 2, "an answer for each step is a vector");
    graph_.values.push_back({old.name, {old.shape[1]}});
    return static_cast<i64>(graph_.values.size()) - 1;
  };
  last_step_ = {first, shorten(first)};
  graph_.prediction = last_step_.value;
  for (auto node = tail.rbegin(); node != tail.rend(); ++node) {
    (*node)->in[0] = graph_.prediction;
    (*node)->out[0] = graph_.prediction = shorten((*node)->out[0]);
  }
}

// Backwards from what is asked for, no further than what is given.
void OnnxEmitter::find_needed() {
  needed_.assign(graph_.values.size(), false);
  const auto need = [&](i64 v) {
    needed_[static_cast<std::size_t>(v)] = true;
    if (v == last_step_.value) needed_[static_cast<std::size_t>(last_step_.of)] = true;
  };
  if (part_.to.empty()) need(graph_.prediction);
  for (const OnnxEnd& end : part_.to) need(end.value);
  for (auto node = graph_.nodes.rbegin(); node != graph_.nodes.rend(); ++node) {
    if (node->out.empty() || !needed_[static_cast<std::size_t>(node->out[0])]) continue;
    const bool given = std::any_of(part_.from.begin(), part_.from.end(), [&](const OnnxEnd& end) {
      return end.value == node->out[0];
    });
    if (!given) std::for_each(node->in.begin(), node->in.end(), need);
  }
}

// In the model, or the large ones in a file of their own.
void OnnxEmitter::place_weights() {
  i64 bytes = 0;
  const Param* largest = nullptr;
  for (const Node& node : graph_.nodes) {
    if (node.out.empty() || !needed_[static_cast<std::size_t>(node.out[0])]) continue;
    for (i64 p : node.params) {
      const Param& param = graph_.params[static_cast<std::size_t>(p)];
      bytes += count(param.shape) * size_of(DType::f32);
      if (!largest || count(param.shape) > count(largest->shape)) largest = &param;
    }
  }
  if (bytes > options_.inline_model)
    return writer_.use_data_file(data_file_of(options_), options_.inline_tensor);
  if (bytes <= kLargest) return;
  fail(Exit::usage, "ONNX model: expected at most {} bytes of weights, as one file of this format "
       "holds, got {}, most of them in '{}' {}; let them stand in a data file", kLargest, bytes,
       largest->name, to_string(largest->shape));
}

void OnnxEmitter::declare_inputs() {
  for (const OnnxEnd& end : part_.from) {
    COHORT_CHECK(!ragged(end.value), "a part of a model that begins with a sequence");
    OnnxTensor tensor{end.name, DType::f32, {"N"}};
    for (i64 extent : value(end.value).shape) tensor.dims.push_back(std::to_string(extent));
    writer_.input(tensor);
    set(end.value, end.name);
  }
  std::set<std::string> declared;
  i64 sequences = 0;
  const auto asked = [&](const Input& input) {
    return needed_[static_cast<std::size_t>(input.value)] && !values_.count(input.value);
  };
  std::set<std::string> fields;
  for (const Input& input : graph_.inputs)
    sequences += asked(input) && input.ragged && fields.insert(input.field).second;
  for (std::size_t k = 0; k < graph_.inputs.size(); ++k) {
    const Input& input = graph_.inputs[k];
    const std::string name = field_name(static_cast<i64>(k));
    if (!asked(input) || !declared.insert(name).second) continue;
    OnnxTensor tensor{name, input.dtype, {"N"}};
    for (i64 extent : input.shape) tensor.dims.push_back(std::to_string(extent));
    if (input.ragged) tensor.dims[1] = sequences > 1 ? "T_" + name : "T";
    writer_.input(tensor);
    if (input.ragged)
      writer_.input({lengths_name(static_cast<i64>(k)), DType::i32, {"N"}});
  }
}

void OnnxEmitter::declare_outputs() {
  if (part_.to.empty()) return declare_heads();
  for (const OnnxEnd& end : part_.to) {
    COHORT_CHECK(!ragged(end.value), "a part of a model that ends with a sequence");
    OnnxTensor tensor{end.name, DType::f32, {"N"}};
    for (i64 extent : value(end.value).shape) tensor.dims.push_back(std::to_string(extent));
    writer_.output(tensor);
  }
}

bool OnnxEmitter::has(i64 v, Channels layout) const {
  const auto found = values_.find(v);
  COHORT_CHECK(found != values_.end(), "value used before it is made: " + value(v).name);
  return !found->second[static_cast<std::size_t>(layout)].empty();
}

Channels OnnxEmitter::layout_of(i64 v) const {
  return has(v, Channels::last) ? Channels::last : Channels::first;
}

void OnnxEmitter::set(i64 v, const std::string& name, Channels layout) {
  values_[v][static_cast<std::size_t>(layout)] = name;
}

void OnnxEmitter::alias(i64 v, i64 of) {
  values_[v] = values_.at(of);
  if (zeroed_.count(of)) zeroed_.insert(v);
}

std::string OnnxEmitter::read(i64 v, Channels layout) {
  const Channels there = layout_of(v);
  std::string& name = values_[v][static_cast<std::size_t>(layout)];
  if (!name.empty()) return name;
  const i64 rank = static_cast<i64>(value(v).shape.size()) + 1;
  std::vector<i64> order{0};
  if (layout == Channels::first) order.push_back(rank - 1);
  const i64 begin = layout == Channels::first ? 1 : 2;
  for (i64 k = 0; k < rank - 2; ++k) order.push_back(begin + k);
  if (layout == Channels::last) order.push_back(1);
  const std::string& from = values_[v][static_cast<std::size_t>(there)];
  return name = writer_.node("Transpose", {from}, value(v).name + "_transposed", {{"perm", order}});
}

const View& OnnxEmitter::weight(const Node& node, std::size_t k) const {
  const Param& param = graph_.params[static_cast<std::size_t>(node.params.at(k))];
  for (const NamedView& named : weights_) {
    if (named.name != param.name) continue;
    if (named.view.shape != param.shape)
      fail(Exit::storage, "ONNX model: weight '{}': expected shape {}, got {}", param.name,
           to_string(param.shape), to_string(named.view.shape));
    return named.view;
  }
  fail(Exit::storage, "ONNX model: no weight '{}' {} among the {} given ones", param.name,
       to_string(param.shape), weights_.size());
}

std::string OnnxEmitter::parameter_name(const Node& node, std::size_t k) const {
  return graph_.params[static_cast<std::size_t>(node.params.at(k))].name;
}

std::vector<double> OnnxEmitter::numbers(const Node& node, std::size_t k) const {
  const View& view = weight(node, k);
  return to_doubles(view.dtype, view.data, view.count());
}

std::string OnnxEmitter::parameter(const Node& node, std::size_t k) {
  const View& view = weight(node, k);
  return writer_.weight(parameter_name(node, k), view.shape, floats_of(view));
}

std::string OnnxEmitter::activated(Activation kind, const std::string& in,
                                   const std::string& name) {
  switch (kind) {
    case Activation::relu: return writer_.node("Relu", {in}, name);
    case Activation::tanh: return writer_.node("Tanh", {in}, name);
    case Activation::sigmoid: return writer_.node("Sigmoid", {in}, name);
    case Activation::none: break;
  }
  return in;
}

}  // namespace cohort
