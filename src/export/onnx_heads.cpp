// What a model answers, by its loss.
#include "base/error.h"
#include "export/onnx_emit.h"

namespace cohort {

// One answer for each step of a sequence: logits, or what a ragged one gives.
bool OnnxEmitter::answers_every_step() const {
  const Value& p = value(graph_.prediction);
  return ragged(graph_.prediction) ||
         (p.shape.size() == 2 && std::get<Loss>(loss().op).kind != LossKind::mse);
}

void OnnxEmitter::declare_heads() {
  const Value& p = value(graph_.prediction);
  std::vector<std::string> dims{"N"};
  for (i64 extent : p.shape) dims.push_back(std::to_string(extent));
  const LossKind kind = std::get<Loss>(loss().op).kind;
  if (kind == LossKind::mse) {
    writer_.output({"prediction", DType::f32, dims});
    if (options_.target) writer_.output({"value", DType::f32, dims});
    return;
  }
  const bool one = kind == LossKind::bce;
  writer_.output({one ? "logit" : "logits", DType::f32, dims});
  writer_.output({one ? "probability" : "probabilities", DType::f32, dims});
}

// A sequence at each row's last valid step, [N, C]; at its first step where none is valid.
std::string OnnxEmitter::last_step(i64 v) {
  const std::string x = read(v);
  if (!ragged(v)) {
    const std::string end = writer_.number(DType::i64, static_cast<double>(value(v).shape[0] - 1));
    return writer_.node("Gather", {x, end}, "last_step", {{"axis", i64{1}}});
  }
  const OnnxAttributes wide_type{{"to", onnx_type(DType::i64)}};
  const std::string wide =
      writer_.node("Cast", {valid_steps_of(value(v))}, "steps_there", wide_type);
  const std::string last =
      writer_.node("Sub", {wide, writer_.number(DType::i64, 1)}, "last_index");
  const std::string index =
      writer_.node("Max", {last, writer_.number(DType::i64, 0)}, "last_index");
  const std::string column =
      writer_.node("Unsqueeze", {index, writer_.integers({1})}, "last_column");
  const OnnxAttributes by_row{{"batch_dims", i64{1}}};
  return writer_.node("GatherND", {x, column}, "last_step", by_row);
}

void OnnxEmitter::emit_heads() {
  std::string x = read(graph_.prediction);
  if (last_step_.of >= 0) x = or_zeros(value(last_step_.of), x);
  writer_.node_as("Identity", {x}, {writer_.outputs[0].name});
  const LossKind kind = std::get<Loss>(loss().op).kind;
  if (kind == LossKind::bce)
    writer_.node_as("Sigmoid", {x}, {writer_.outputs[1].name});
  if (kind == LossKind::cross_entropy)
    writer_.node_as("Softmax", {x}, {writer_.outputs[1].name}, {{"axis", i64{-1}}});
  if (kind == LossKind::mse && options_.target) emit_value(x);
}

// In float64, as TargetRule::raw_of().
void OnnxEmitter::emit_value(const std::string& prediction) {
  const TargetRule& rule = *options_.target;
  std::string x =
      writer_.node("Cast", {prediction}, "value_f64", {{"to", onnx_type(DType::f64)}});
  const auto step = [&](const char* op, const std::string& by) {
    x = writer_.node(op, {x, by}, "value_step");
  };
  const auto channels = [&](const char* name, const std::vector<double>& values) {
    const std::vector<char> bytes = from_doubles(DType::f64, values);
    return writer_.constant(name, DType::f64, {static_cast<i64>(values.size())},
                            {bytes.begin(), bytes.end()});
  };
  if (!rule.ingest.mean.empty()) {
    step("Div", channels("value_inv_std", rule.ingest.inv_std));
    step("Add", channels("value_mean", rule.ingest.mean));
  }
  for (const double scale : {rule.ingest.scale, rule.scale})
    if (scale != 1) step("Div", writer_.number(DType::f64, scale));
  if (rule.offset != 0) step("Sub", writer_.number(DType::f64, rule.offset));
  if (rule.log1p) {
    x = writer_.node("Exp", {x}, "value_step");
    step("Sub", writer_.number(DType::f64, 1));
  }
  writer_.node_as("Cast", {x}, {writer_.outputs[1].name}, {{"to", onnx_type(DType::f32)}});
}

}  // namespace cohort
