#include "app/bench_cases.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "base/config.h"
#include "base/error.h"
#include "base/rng.h"
#include "base/text.h"
#include "comm/communicator.h"
#include "data/row_union.h"
#include "model/build.h"
#include "model/fuse.h"

namespace cohort {
namespace {

struct Case {
  i64 batch;
  std::vector<Field> fields;
  const char* model;
};

Field field(const std::string& name, DType dtype, Shape shape, i64 classes = 0) {
  Field f;
  f.name = name;
  f.dtype = dtype;
  f.shape = std::move(shape);
  f.classes = classes;
  return f;
}

Field sequence(const std::string& name, DType dtype, Shape shape, i64 classes = 0) {
  Field f = field(name, dtype, std::move(shape), classes);
  f.ragged = true;
  f.stats.max_length = 64;
  return f;
}

const char* behavior_seed = R"(
inputs: {events: {normalize: none}}
layers: [{lstm: {units: 50, output: last}}, {dense: {units: 1}}]
loss: {mse: {target: target}})";
const char* behavior = R"(
inputs: {events: {normalize: none}}
layers: [{lstm: {units: 256, layers: 2, output: last}}, {dense: {units: 1}}]
loss: {mse: {target: target}})";
const char* recommend = R"(
inputs: {user: {}, item: {}, user_features: {normalize: none}, item_features: {normalize: none}}
layers:
  - embedding: {name: u, from: user, dim: 32, sparse: false}
  - concat: {name: ua, from: [u, user_features]}
  - dense: {name: uh, units: 128, activation: relu}
  - dense: {name: uv, units: 64}
  - embedding: {name: i, from: item, dim: 32, sparse: false}
  - concat: {name: ia, from: [i, item_features]}
  - dense: {name: ih, units: 128, activation: relu}
  - dense: {name: iv, units: 64}
  - dot: {from: [uv, iv]}
loss: {bce: {target: label}})";
const char* sentiment = R"(
inputs: {tokens: {}}
layers:
  - embedding: {name: e, from: tokens, dim: 128, sparse: false}
  - conv1d: {name: a, from: e, filters: 100, width: 3, activation: relu}
  - max_over_time: {name: am}
  - conv1d: {name: b, from: e, filters: 100, width: 4, activation: relu}
  - max_over_time: {name: bm}
  - conv1d: {name: c, from: e, filters: 100, width: 5, activation: relu}
  - max_over_time: {name: cm}
  - concat: {from: [am, bm, cm]}
  - dropout: {rate: 0.5}
  - dense: {units: 1}
loss: {bce: {target: label}})";
const char* image_seed = R"(
inputs: {image: {normalize: none}}
layers:
  - conv2d: {filters: 32, kernel: 3, activation: relu}
  - max_pool2d: {size: 2, stride: 2}
  - flatten: {}
  - dense: {units: 100, activation: relu}
  - dense: {units: 10}
loss: {cross_entropy: {target: label}})";

const std::map<std::string, Case>& cases() {
  static const std::map<std::string, Case> all = {
      {"behavior-seed",
       {32, {sequence("events", DType::f32, {32}), field("target", DType::f32, {1})},
        behavior_seed}},
      {"behavior",
       {256, {sequence("events", DType::f32, {64}), field("target", DType::f32, {1})}, behavior}},
      {"recommend",
       {4096,
        {field("user", DType::i32, {}, 100000), field("item", DType::i32, {}, 50000),
         field("user_features", DType::f32, {16}), field("item_features", DType::f32, {16}),
         field("label", DType::f32, {1})},
        recommend}},
      {"sentiment",
       {128, {sequence("tokens", DType::i32, {}, 20000), field("label", DType::f32, {1})},
        sentiment}},
      {"image-seed",
       {128, {field("image", DType::f32, {28, 28, 1}), field("label", DType::i32, {}, 10)},
        image_seed}},
  };
  return all;
}

struct ModelFile {
  ModelConfig model;
};
void bind(Binder& b, ModelFile& file) { bind(b, file.model); }

void fill(const Input& input, i64 classes, i64 rows, Stream& stream, BatchColumn& column) {
  const i64 n = rows * count(input.shape);
  column.data.resize(static_cast<std::size_t>(n * size_of(input.dtype)));
  for (i64 k = 0; k < n; ++k) {
    if (input.dtype == DType::i32) {
      const i32 id = static_cast<i32>(stream.below(std::max<i64>(1, classes)));
      std::memcpy(&column.data[static_cast<std::size_t>(k * 4)], &id, 4);
    } else {
      const bool label = input.field == "label";
      const float x = static_cast<float>(label ? stream.below(2) : stream.normal());
      std::memcpy(&column.data[static_cast<std::size_t>(k * 4)], &x, 4);
    }
  }
  if (input.ragged)
    column.lengths.assign(static_cast<std::size_t>(rows), static_cast<i32>(input.max_length));
}

double node_flops(const Graph& graph, const Node& node) {
  const auto shape = [&](i64 v) { return graph.values[static_cast<std::size_t>(v)].shape; };
  double weights = 0;
  for (i64 p : node.params) {
    const Shape& s = graph.params[static_cast<std::size_t>(p)].shape;
    if (s.size() > 1) weights += static_cast<double>(count(s));
  }
  if (std::holds_alternative<Embedding>(node.op) || weights == 0) return 0;
  const Shape in = shape(node.in.at(0));
  double places = 1;
  if (std::holds_alternative<Recurrent>(node.op)) places = static_cast<double>(in[0]);
  if (const auto* c = std::get_if<Conv1d>(&node.op))
    places = static_cast<double>(in[0] - c->width + 1);
  if (const auto* c = std::get_if<Conv2d>(&node.op)) {
    const i64 h = (in[0] + 2 * c->padding - c->kernel) / c->stride + 1;
    const i64 w = (in[1] + 2 * c->padding - c->kernel) / c->stride + 1;
    places = static_cast<double>(h * w);
  }
  if (std::holds_alternative<Dense>(node.op) && in.size() > 1) places = static_cast<double>(in[0]);
  return 2 * weights * places;
}

}  // namespace

std::vector<std::string> bench_names() {
  return {"behavior-seed", "behavior", "recommend", "sentiment", "image-seed"};
}

BenchCase make_bench_case(const std::string& name) {
  const auto at = cases().find(name);
  if (at == cases().end())
    fail(Exit::usage, "bench: unknown workload '{}'; expected one of: {}", name,
         join(bench_names(), ", "));
  ModelFile file;
  Binder::read(Document::parse(at->second.model, "bench " + name), file);
  BenchCase bench;
  bench.name = name;
  bench.batch = at->second.batch;
  bench.graph = fuse(build_graph(file.model, at->second.fields, {}));
  return bench;
}

Batch make_bench_batch(const BenchCase& bench, u64 seed) {
  Batch batch;
  batch.capacity = batch.valid = bench.batch;
  Stream stream(mix_key(seed, name_key(bench.name)));
  for (const Input& input : bench.graph.inputs) {
    i64 classes = 0;
    for (const Field& f : cases().at(bench.name).fields)
      if (f.name == input.field) classes = f.classes;
    fill(input, classes, bench.batch, stream, batch.columns.emplace_back());
  }
  for (i64 r = 0; r < bench.batch; ++r) {
    batch.row_ids.push_back(static_cast<i64>(seed) * bench.batch + r);
    batch.positions.push_back(static_cast<i32>(r));
    batch.blocks.push_back(0);
  }
  return batch;
}

std::vector<SparseRows> bench_sparse_rows(const BenchCase& bench, const Batch& batch) {
  std::vector<SparseRows> all;
  const auto solo = make_solo();
  for (i64 column : sparse_inputs(bench.graph)) {
    const std::vector<u8>& data = batch.columns[static_cast<std::size_t>(column)].data;
    std::vector<i32> ids(data.size() / 4);
    std::memcpy(ids.data(), data.data(), data.size());
    RowUnion rows = agree_rows(*solo, ids);
    all.push_back({std::move(rows.rows), std::move(rows.local)});
  }
  return all;
}

double flops_per_step(const BenchCase& bench) {
  double forward = 0;
  for (const Node& node : bench.graph.nodes) forward += node_flops(bench.graph, node);
  return 3 * forward * static_cast<double>(bench.batch);
}

}  // namespace cohort
