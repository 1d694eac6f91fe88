#include "model/build.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "model/build_impl.h"

namespace cohort {
namespace {

// mean and 1/deviation per element of the last dimension, in units of raw * scale.
Ingest ingest_of(const InputConfig& config, const Field& field) {
  Ingest op;
  op.scale = config.scale;
  if (config.normalize != "standard") return op;
  const i64 channels = field.shape.empty() ? 1 : field.shape.back();
  const auto& mean = field.stats.mean;
  const auto& deviation = field.stats.stddev;
  if (static_cast<i64>(mean.size()) != channels || deviation.size() != mean.size())
    fail(Exit::usage,
         "{}: normalize: standard needs statistics of field '{}': expected {} means, got {}; use "
         "normalize: none or shard the data again",
         config.place, field.name, channels, mean.size());
  for (std::size_t c = 0; c < mean.size(); ++c) {
    op.mean.push_back(mean[c] * config.scale);
    const double spread = deviation[c] * std::abs(config.scale);
    op.inv_std.push_back(spread > 0 ? 1 / spread : 1);
  }
  return op;
}

// Ids are int32, everywhere from the shard to the tables' gradients.
bool is_ids(const Field& field, const std::string& place) {
  if (field.dtype == DType::i64 && field.classes > 0)
    fail(Exit::usage, "{}: field '{}' holds int64 ids, expected int32; shard the data again", place,
         field.name);
  return field.dtype == DType::i32 && field.classes > 0;
}

}  // namespace

Graph build_graph(const ModelConfig& config, const std::vector<Field>& fields,
                  const std::vector<Vocabulary>& vocabularies) {
  std::vector<Field> known = fields;
  for (Field& field : known) {
    for (const Vocabulary& v : vocabularies) {
      if (field.classes == 0 && !field.vocabulary.empty() && v.name == field.vocabulary)
        field.classes = static_cast<i64>(v.entries.size());
    }
  }
  return GraphBuilder(config, known).build();
}

Graph GraphBuilder::build() {
  for (const auto& [name, input] : config_.inputs) add_input(name, input);
  add_target();
  for (std::size_t k = 0; k < config_.layers.size(); ++k)
    add_layer(config_.layers[k], static_cast<i64>(k));
  add_loss();
  return std::move(graph_);
}

const Field& GraphBuilder::field_named(const std::string& name, const std::string& place) const {
  std::vector<std::string> known;
  for (const Field& field : fields_) {
    if (field.name == name) return field;
    known.push_back(field.name);
  }
  const std::string near = nearest(name, known);
  fail(Exit::usage, "{}: the shard set has no field '{}'{}; its fields: {}", place, name,
       near.empty() ? "" : ", did you mean '" + near + "'?", join(known, ", "));
}

void GraphBuilder::add_input(const std::string& name, const InputConfig& config) {
  const Field& field = field_named(config.field.empty() ? name : config.field, config.place);
  Input input;
  input.field = field.name;
  input.dtype = field.dtype;
  input.ragged = field.ragged;
  if (field.ragged)
    input.max_length = config.max_length ? config.max_length : std::max<i64>(field.stats.max_length, 1);
  else if (config.max_length)
    fail(Exit::usage, "{}: max_length is for ragged fields, field '{}' is fixed {}; remove it",
         config.place, field.name, to_string(field.shape));
  if (input.ragged) input.shape.push_back(input.max_length);
  input.shape.insert(input.shape.end(), field.shape.begin(), field.shape.end());
  const bool ids = is_ids(field, config.place);
  if (ids && (config.normalize != "none" || config.scale != 1))
    fail(Exit::usage, "{}: field '{}' holds ids: expected no normalize and no scale; remove them",
         config.place, field.name);
  Value value{name, input.shape, ids, -1, 0};
  if (!ids && field.shape.empty()) value.shape.push_back(1);
  if (input.ragged) value.lengths = static_cast<i64>(graph_.inputs.size());
  input.value = add_value(value, config.place);
  classes_.back() = ids ? field.classes : 0;
  graph_.inputs.push_back(input);
  graph_.nodes.push_back({name, ids ? Ingest{} : ingest_of(config, field), {}, {input.value}, {},
                          config.place});
  if (name != config_.loss.target) last_ = input.value;
}

// A ragged target is cut like the sequence that it is compared with: the first ragged input.
void GraphBuilder::add_target() {
  const std::string& name = config_.loss.target;
  if (!names_.count(name)) {
    InputConfig input;
    input.place = config_.loss.place;
    if (field_named(name, input.place).ragged) {
      for (const Input& other : graph_.inputs)
        if (other.ragged && !input.max_length) input.max_length = other.max_length;
    }
    add_input(name, input);
  }
  graph_.target = names_.at(name);
}

i64 GraphBuilder::value_named(const std::string& name, const std::string& place) const {
  const auto found = names_.find(name);
  if (found != names_.end()) return found->second;
  std::vector<std::string> known;
  for (const auto& [key, index] : names_) known.push_back(key);
  const std::string near = nearest(name, known);
  fail(Exit::usage, "{}: no input or earlier layer is named '{}'{}; known here: {}", place, name,
       near.empty() ? "" : ", did you mean '" + near + "'?", join(known, ", "));
}

i64 GraphBuilder::add_value(const Value& value, const std::string& place) {
  const i64 index = static_cast<i64>(graph_.values.size());
  if (!names_.emplace(value.name, index).second)
    fail(Exit::usage, "{}: the name '{}' is taken by an earlier input or layer; choose another",
         place, value.name);
  graph_.values.push_back(value);
  classes_.push_back(0);
  return index;
}

i64 GraphBuilder::add_param(Param param) {
  graph_.params.push_back(std::move(param));
  return static_cast<i64>(graph_.params.size()) - 1;
}

void GraphBuilder::check_cross_entropy(const Value& p, const Value& t) const {
  const LossConfig& loss = config_.loss;
  const i64 classes = classes_[static_cast<std::size_t>(graph_.target)];
  if (!t.integer)
    fail(Exit::usage, "{}: cross_entropy needs a target of class ids, '{}' holds numbers; use mse "
         "or bce, or give the field classes in the shard recipe", loss.place, t.name);
  Shape wanted = t.shape;
  wanted.push_back(classes);
  if (p.shape != wanted)
    fail(Exit::usage, "{}: cross_entropy: expected logits of shape {} for target '{}' with {} "
         "classes, layer '{}' gives {}; set its units to classes and its length to the target's",
         loss.place, to_string(wanted), t.name, classes, p.name, to_string(p.shape));
}

void GraphBuilder::add_loss() {
  const LossConfig& loss = config_.loss;
  const i64 prediction =
      loss.prediction.empty() ? last_ : value_named(loss.prediction, loss.place);
  if (prediction < 0)
    fail(Exit::usage, "{}: the model has no inputs; name one under model.inputs", loss.place);
  graph_.prediction = prediction;
  const Value& p = value(prediction);
  const Value& t = value(graph_.target);
  Loss op;
  if (p.integer)
    fail(Exit::usage, "{}: the prediction '{}' holds ids; add a layer", loss.place, p.name);
  if (loss.kind == "cross_entropy") {
    op.kind = LossKind::cross_entropy;
    check_cross_entropy(p, t);
  } else {
    op.kind = loss.kind == "bce" ? LossKind::bce : LossKind::mse;
    if (t.integer || p.shape != t.shape)
      fail(Exit::usage, "{}: {}: expected numbers of shape {} as '{}' gives, target '{}' has {} {}; "
           "change the units of the last layer or the target", loss.place, loss.kind,
           to_string(p.shape), p.name, t.name, t.integer ? "ids of shape" : "shape",
           to_string(t.shape));
    if (op.kind == LossKind::bce && p.shape.back() != 1)
      fail(Exit::usage, "{}: bce: expected one logit [1], '{}' gives {}; use units: 1", loss.place,
           p.name, to_string(p.shape));
  }
  graph_.nodes.push_back({"loss", op, {prediction, graph_.target}, {}, {}, loss.place});
}

}  // namespace cohort
