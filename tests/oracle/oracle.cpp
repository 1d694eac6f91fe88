#include "oracle.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <stdexcept>

namespace cohort::testing {
namespace {

Json load(const std::string& name) {
  std::ifstream file(std::string(COHORT_FIXTURES) + "/" + name + ".json");
  if (!file) throw std::runtime_error("no fixture " + name);
  return Json::parse(file);
}

std::vector<Field> fields_of(const Json& fixture) {
  std::vector<Field> fields;
  for (const Json& f : fixture.at("fields")) {
    Field field;
    field.name = f.at("name");
    field.dtype = dtype_from(f.at("dtype"));
    field.shape = f.at("shape").get<Shape>();
    field.ragged = f.at("ragged");
    field.classes = f.at("classes");
    field.stats.max_length = f.at("max_length");
    fields.push_back(field);
  }
  return fields;
}

// The values as T, and `padding` more rows that hold what no kernel may use.
template <class T>
std::vector<u8> narrow(const std::vector<double>& values, T unusable, i64 padding) {
  std::vector<T> typed;
  for (double v : values) typed.push_back(static_cast<T>(v));
  typed.resize(typed.size() + static_cast<std::size_t>(padding), unusable);
  std::vector<u8> bytes(typed.size() * sizeof(T));
  std::memcpy(bytes.data(), typed.data(), bytes.size());
  return bytes;
}

Batch batch_of(const Json& fixture, const Graph& graph) {
  Batch batch;
  batch.valid = fixture.at("rows");
  batch.capacity = batch.valid + fixture.value("padding", i64{0});
  for (const Input& input : graph.inputs) {
    BatchColumn column;
    const auto values = fixture.at("data").at(input.field).get<std::vector<double>>();
    const i64 more = static_cast<i64>(values.size()) / batch.valid * (batch.capacity - batch.valid);
    if (input.dtype == DType::f32) column.data = narrow<float>(values, std::nanf(""), more);
    if (input.dtype == DType::i32) column.data = narrow<i32>(values, -1, more);
    if (input.dtype == DType::u8) column.data = narrow<u8>(values, 255, more);
    if (input.ragged) column.lengths = fixture.at("lengths").get<std::vector<i32>>();
    if (input.ragged) column.lengths.resize(static_cast<std::size_t>(batch.capacity), 0);
    batch.columns.push_back(column);
  }
  for (i64 k = 0; k < batch.capacity; ++k) {
    batch.row_ids.push_back(k < batch.valid ? 100 + k : -1);
    batch.positions.push_back(static_cast<i32>(k));
  }
  return batch;
}

Values numbers_by_name(const Json& json, const char* inner) {
  Values values;
  for (const auto& [name, item] : json.items())
    values[name] = (inner ? item.at(inner) : item).get<std::vector<double>>();
  return values;
}

// Steps beyond a row's length hold nothing: both sides are set to 0 there.
void clear_padding(std::vector<double>& logits, const Graph& graph, const Batch& batch) {
  const Value& value = graph.values[static_cast<std::size_t>(graph.prediction)];
  if (value.lengths < 0) return;
  const auto& lengths = batch.columns[static_cast<std::size_t>(value.lengths)].lengths;
  const i64 width = count(value.shape) / value.shape[0];
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const i64 step = static_cast<i64>(i) / width;
    const i64 row = step / value.shape[0];
    if (step % value.shape[0] >= lengths[static_cast<std::size_t>(row)]) logits[i] = 0;
  }
}

}  // namespace

Oracle::Oracle(const std::string& name, bool fused)
    : fixture(load(name)),
      graph(graph_from(fixture.at("model").dump(), fields_of(fixture), fused)),
      batch(batch_of(fixture, graph)) {
  config.global_batch = config.rows = batch.capacity;
  config.optimizer.name = fixture.at("optimizer").at("name");
}

namespace {

void set_weights(const Oracle& oracle, Device& device, Replica& replica) {
  const Values start = numbers_by_name(oracle.fixture.at("params"), "values");
  ASSERT_EQ(start.size(), oracle.graph.params.size());
  for (std::size_t p = 0; p < oracle.graph.params.size(); ++p) {
    const Param& param = oracle.graph.params[p];
    ASSERT_TRUE(start.count(param.name)) << param.name;
    const Json& expected = oracle.fixture.at("params").at(param.name);
    ASSERT_EQ(param.shape, expected.at("shape").get<Shape>()) << param.name;
    ASSERT_EQ(param.sparse, expected.at("sparse").get<bool>()) << param.name;
    write(device, replica.state().weight(static_cast<i64>(p)), start.at(param.name));
  }
}

}  // namespace

void check_logits(Oracle& oracle, Device& device, double tolerance) {
  PlanConfig config = oracle.config;
  Replica replica(device, oracle.graph, config);
  set_weights(oracle, device, replica);
  const StepResult result = replica.plan().infer(oracle.batch);
  std::vector<double> logits = replica.plan().prediction(oracle.batch.valid);
  auto expected = oracle.fixture.at("logits").get<std::vector<double>>();
  clear_padding(logits, oracle.graph, oracle.batch);
  EXPECT_EQ(difference(logits, expected, tolerance), "");
  const double first = oracle.fixture.at("losses").at(0);
  EXPECT_EQ(difference({result.loss / result.weight}, {oracle.fixture.value("infer_loss", first)},
                       tolerance),
            "");
}

void check_training(Oracle& oracle, Device& device, double tolerance) {
  PlanConfig config = oracle.config;
  config.train = true;
  Replica replica(device, oracle.graph, config);
  set_weights(oracle, device, replica);
  const auto solo = make_solo();
  const auto sparse = sparse_rows(oracle.graph, oracle.batch, *solo);
  replica.plan().gradients(oracle.batch, sparse, nullptr);
  EXPECT_EQ(difference(replica.gradients(), numbers_by_name(oracle.fixture.at("grads"), nullptr),
                       tolerance),
            "");
  std::vector<double> losses;
  for (int k = 0; k < 10; ++k) {
    const StepResult result = replica.plan().step(
        oracle.batch, sparse, {}, nullptr, oracle.fixture.at("optimizer").at("learning_rate"));
    EXPECT_FALSE(result.skipped);
    losses.push_back(result.loss);
  }
  EXPECT_EQ(difference(losses, oracle.fixture.at("losses").get<std::vector<double>>(), tolerance),
            "");
  if (!oracle.fixture.contains("running")) return;
  const Values after = replica.tensors();
  for (const auto& [name, expected] : numbers_by_name(oracle.fixture.at("running"), nullptr))
    EXPECT_EQ(difference(after.at(name), expected, tolerance), "") << name;
}

}  // namespace cohort::testing
