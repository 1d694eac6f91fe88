#include "onnx_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/rng.h"
#include "export/safetensors.h"

namespace cohort::testing {
namespace {

constexpr i64 rows = 7;

// In [-1, 1).
double number(u64 key) {
  return static_cast<double>(Stream(key).next_u64() >> 11) * 0x1p-52 - 1;
}

std::vector<double> weights_of(const Param& param) {
  std::vector<double> values(static_cast<std::size_t>(count(param.shape)));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double x = number(mix_key(name_key(param.name), i, 3));
    values[i] = static_cast<float>(param.name.ends_with(".running_var") ? 1.25 + x : 0.75 * x);
  }
  return values;
}

void put(const Field& field, std::vector<u8>& data, i64 index, double unit, bool padding) {
  const auto store = [&](auto value) {
    std::memcpy(data.data() + static_cast<std::size_t>(index) * sizeof(value), &value,
                sizeof(value));
  };
  const double mean = field.stats.mean.empty() ? 0 : field.stats.mean[0];
  switch (field.dtype) {
    case DType::u8: return store(padding ? u8{0} : static_cast<u8>(127.5 + 127.5 * unit));
    case DType::i64: return store(static_cast<i64>(padding ? 0 : 40 * unit));
    case DType::f64: return store(padding ? 0 : mean + 2 * unit);
    case DType::i32: {
      const double id = (unit + 1) / 2 * static_cast<double>(field.classes);
      return store(padding ? -1 : static_cast<i32>(id));
    }
    default: return store(padding ? 0.0f : static_cast<float>(1.5 * unit));
  }
}

BatchColumn column_of(const Field& field, const Input& input, bool target) {
  BatchColumn column;
  const i64 width = count(input.shape), steps = input.ragged ? input.shape[0] : 1;
  column.data.resize(static_cast<std::size_t>(rows * width * size_of(input.dtype)));
  for (i64 r = 0; r < rows; ++r) {
    // A target is as long as its sequence; fields of no relation have lengths of their own.
    const i64 length = input.ragged ? (r + (field.name == "tokens" ? 2 : 0)) % (steps + 1) : 1;
    if (input.ragged) column.lengths.push_back(static_cast<i32>(length));
    for (i64 i = 0; i < width; ++i) {
      const double unit = number(mix_key(name_key(field.name), static_cast<u64>(r * width + i)));
      put(field, column.data, r * width + i, target && !field.classes ? 0.5 : unit,
          i / (width / steps) >= length);
    }
  }
  return column;
}

// The head's answers from the prediction of every row.
std::map<std::string, std::vector<double>> answers_of(const OnnxCase& c,
                                                      const std::vector<double>& prediction) {
  const Value& value = c.graph.values[static_cast<std::size_t>(c.graph.prediction)];
  const LossKind kind = std::get<Loss>(c.graph.nodes.back().op).kind;
  const bool by_step = value.shape.size() == 2;
  const i64 width = by_step ? value.shape[1] : count(value.shape);
  std::vector<double> logits, probabilities;
  for (i64 r = 0; r < rows; ++r) {
    i64 step = by_step ? value.shape[0] - 1 : 0;
    if (value.lengths >= 0)
      step = valid_steps(value, c.batch.columns[static_cast<std::size_t>(value.lengths)]
                                    .lengths[static_cast<std::size_t>(r)]) - 1;
    double sum = 0;
    for (i64 k = 0; k < width; ++k) {
      const i64 at = r * count(value.shape) + step * width + k;
      logits.push_back(step < 0 ? 0 : prediction[static_cast<std::size_t>(at)]);
      sum += std::exp(logits.back());
    }
    for (i64 k = 0; k < width; ++k) {
      const double x = logits[static_cast<std::size_t>(r * width + k)];
      probabilities.push_back(kind == LossKind::bce ? 1 / (1 + std::exp(-x)) : std::exp(x) / sum);
    }
  }
  if (kind == LossKind::mse)
    return {{"prediction", logits}, {"value", c.options.target->raw_of(logits)}};
  if (kind == LossKind::bce) return {{"logit", logits}, {"probability", probabilities}};
  return {{"logits", logits}, {"probabilities", probabilities}};
}

}  // namespace

OnnxCase::OnnxCase(const std::string& name, bool fused) {
  const Family family = exported(name);
  graph = graph_from(family.model, family.fields, fused);
  if (std::get<Loss>(graph.nodes.back().op).kind == LossKind::mse) {
    TargetRule& rule = options.target.emplace();
    rule = {"target", true, -1, 0.25, {2, {}, {}}};
    for (i64 c = 0; c < graph.values[static_cast<std::size_t>(graph.prediction)].shape.back(); ++c) {
      rule.ingest.mean.push_back(0.5 - static_cast<double>(c));
      rule.ingest.inv_std.push_back(2 + static_cast<double>(c));
    }
  }
  batch.capacity = batch.valid = rows;
  for (i64 r = 0; r < rows; ++r) {
    batch.row_ids.push_back(r);
    batch.positions.push_back(static_cast<i32>(r));
  }
  for (const Input& input : graph.inputs) {
    const auto field = std::find_if(family.fields.begin(), family.fields.end(),
                                    [&](const Field& f) { return f.name == input.field; });
    batch.columns.push_back(column_of(*field, input, input.value == graph.target));
  }
  const auto device = make_reference_device();
  PlanConfig config;
  config.global_batch = config.rows = rows;
  Replica replica(*device, graph, config);
  weight_numbers.reserve(graph.params.size());
  for (std::size_t p = 0; p < graph.params.size(); ++p) {
    const Param& param = graph.params[p];
    weight_numbers.push_back(weights_of(param));
    write(*device, replica.state().weight(static_cast<i64>(p)), weight_numbers[p]);
    weights.push_back({param.name, {weight_numbers[p].data(), DType::f64, param.shape}});
  }
  replica.plan().infer(batch);
  answers = answers_of(*this, replica.plan().prediction(rows));
}

void write_rows(const OnnxCase& c, const std::string& path) {
  std::vector<NamedView> tensors;
  for (std::size_t k = 0; k < c.graph.inputs.size(); ++k) {
    const Input& input = c.graph.inputs[k];
    const BatchColumn& column = c.batch.columns[k];
    Shape shape{rows};
    shape.insert(shape.end(), input.shape.begin(), input.shape.end());
    tensors.push_back({input.field, {const_cast<u8*>(column.data.data()), input.dtype, shape}});
    if (input.ragged)
      tensors.push_back({input.field + "_lengths",
                         {const_cast<i32*>(column.lengths.data()), DType::i32, {rows}}});
  }
  for (const auto& [name, values] : c.answers)
    tensors.push_back({"answer/" + name,
                       {const_cast<double*>(values.data()), DType::f64,
                        {rows, static_cast<i64>(values.size()) / rows}}});
  const auto file = real_files().create(path);
  write_safetensors(*file, tensors);
  file->close();
}

}  // namespace cohort::testing
