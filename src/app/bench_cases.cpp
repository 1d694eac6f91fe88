#include "app/bench_cases.h"

#include <algorithm>
#include <cstring>

#include "app/bench_models.h"
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
  std::string model;
  bool pictures = false;   // trained as pictures usually are: SGD with momentum
};

// Puts sizes in the place of the words that stand for them.
std::string sized(std::string text, const std::vector<std::pair<std::string, std::string>>& words) {
  for (const auto& [word, size] : words)
    for (std::size_t at; (at = text.find(word)) != std::string::npos;)
      text.replace(at, word.size(), size);
  return text;
}

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

Case behavior_case(i64 batch, i64 features, i64 units, i64 layers) {
  return {batch,
          {sequence("events", DType::f32, {features}), field("target", DType::f32, {1})},
          sized(bench::behavior,
                {{"UNITS", std::to_string(units)}, {"LAYERS", std::to_string(layers)}})};
}

// Gradients of tables are dense where PyTorch's are; on a GPU, only the touched rows.
Case recommend_case(bool gpu) {
  const i64 scale = gpu ? 2 : 1;
  return {gpu ? 16384 : 4096,
          {field("user", DType::i32, {}, 100000 * scale), field("item", DType::i32, {}, 50000 * scale),
           field("user_features", DType::f32, {16}), field("item_features", DType::f32, {16}),
           field("label", DType::f32, {1})},
          sized(bench::recommend, {{"DIM", std::to_string(32 * scale)},
                                   {"HIDDEN", std::to_string(128 * scale)},
                                   {"OUTPUT", std::to_string(64 * scale)},
                                   {"SPARSE", gpu ? "true" : "false"}})};
}

Case sentiment_case(bool gpu) {
  return {gpu ? 256 : 128,
          {sequence("tokens", DType::i32, {}, gpu ? 30000 : 20000), field("label", DType::f32, {1})},
          sized(bench::sentiment,
                {{"DIM", gpu ? "300" : "128"}, {"SPARSE", gpu ? "true" : "false"}})};
}

Case resnet_case(i64 batch, i64 side, i64 classes, const char* model) {
  Field image = field("image", DType::u8, {side, side, 3});
  image.stats.mean = {125, 123, 114};
  image.stats.stddev = {63, 62, 67};
  return {batch, {image, field("label", DType::i32, {}, classes)}, model, true};
}

Case make_case(const std::string& name, bool gpu) {
  if (name == "behavior-seed") return behavior_case(32, 32, 50, 1);
  if (name == "behavior") return gpu ? behavior_case(512, 64, 512, 2) : behavior_case(256, 64, 256, 2);
  if (name == "recommend") return recommend_case(gpu);
  if (name == "sentiment") return sentiment_case(gpu);
  if (name == "resnet18") return resnet_case(gpu ? 512 : 64, 32, 10, bench::resnet18);
  if (name == "resnet50") return resnet_case(gpu ? 256 : 8, 224, 1000, bench::resnet50);
  if (name == "image-seed")
    return {128,
            {field("image", DType::f32, {28, 28, 1}), field("label", DType::i32, {}, 10)},
            bench::image_seed};
  fail(Exit::usage, "bench: unknown workload '{}'; expected one of: {}", name,
       join(bench_names(), ", "));
}

struct ModelFile {
  ModelConfig model;
};
void bind(Binder& b, ModelFile& file) { bind(b, file.model); }

void fill(const Input& input, i64 classes, i64 rows, Stream& stream, BatchColumn& column) {
  const i64 n = rows * count(input.shape);
  column.data.resize(static_cast<std::size_t>(n * size_of(input.dtype)));
  if (input.dtype == DType::u8) {
    for (u8& byte : column.data) byte = static_cast<u8>(stream.below(256));
    return;
  }
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

}  // namespace

std::vector<std::string> bench_names() {
  return {"behavior-seed", "behavior", "recommend", "sentiment", "image-seed", "resnet18",
          "resnet50"};
}

BenchCase make_bench_case(const std::string& name, bool gpu, i64 batch) {
  Case wanted = make_case(name, gpu);
  ModelFile file;
  Binder::read(Document::parse(wanted.model, "bench " + name), file);
  BenchCase bench;
  bench.name = name;
  bench.batch = batch > 0 ? batch : wanted.batch;
  bench.graph = fuse(build_graph(file.model, wanted.fields, {}));
  bench.fields = std::move(wanted.fields);
  if (wanted.pictures) {
    bench.optimizer.name = "sgd";
    bench.optimizer.momentum = 0.9;
    bench.optimizer.weight_decay = 1e-4;
  }
  return bench;
}

Batch make_bench_batch(const BenchCase& bench, u64 seed) {
  Batch batch;
  batch.capacity = batch.valid = bench.batch;
  Stream stream(mix_key(seed, name_key(bench.name)));
  for (const Input& input : bench.graph.inputs) {
    i64 classes = 0;
    for (const Field& f : bench.fields)
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

}  // namespace cohort
