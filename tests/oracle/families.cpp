#include "families.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "base/rng.h"

namespace cohort::testing {
namespace {

constexpr i64 max_length = 6;

Field numbers(const std::string& name, Shape shape, bool ragged = false) {
  Field field;
  field.name = name;
  field.shape = std::move(shape);
  field.ragged = ragged;
  field.stats.max_length = ragged ? max_length : 0;
  for (i64 c = 0; c < field.shape.back(); ++c) {
    field.stats.mean.push_back(0.1 * static_cast<double>(c));
    field.stats.stddev.push_back(1.0 + 0.5 * static_cast<double>(c));
  }
  return field;
}

Field ids(const std::string& name, i64 classes, bool ragged = false) {
  Field field;
  field.name = name;
  field.dtype = DType::i32;
  field.ragged = ragged;
  field.classes = classes;
  field.stats.max_length = ragged ? max_length : 0;
  return field;
}

OptimizerConfig rule(const std::string& name, double decay, double clip) {
  OptimizerConfig optimizer;
  optimizer.name = name;
  optimizer.weight_decay = decay;
  optimizer.clip_norm = clip;
  if (name == "sgd") optimizer.momentum = 0.9;
  return optimizer;
}

Family behavior(const std::string& kind) {
  const std::string layer = kind == "lstm" ? "lstm: {from: events, units: 4, layers: 2}"
                                           : kind + ": {from: events, units: 5}";
  return {"behavior-" + kind,
          "inputs: {events: {normalize: standard}}\n"
          "layers:\n"
          "  - " +
              layer +
              "\n"
              "  - batch_norm: {groups: 3}\n"
              "  - dropout: {rate: 0.3}\n"
              "  - dense: {units: 1}\n"
              "loss: {mse: {target: target}}\n",
          {numbers("events", {3}, true), numbers("target", {1})},
          kind == "rnn" ? rule("adamw", 0.01, 0.5) : rule("adam", 0, 1.0)};
}

Family next_event() {
  return {"behavior-next-event",
          "inputs: {events: {}, next: {}}\n"
          "layers:\n"
          "  - embedding: {from: events, dim: 3}\n"
          "  - lstm: {units: 4, output: every}\n"
          "  - batch_norm: {groups: 4}\n"
          "  - dropout: {rate: 0.2}\n"
          "  - dense: {units: classes}\n"
          "loss: {cross_entropy: {target: next}}\n",
          {ids("events", 9, true), ids("next", 9, true)},
          rule("adam", 0, 0.7)};
}

Family two_tower() {
  std::string layers;
  for (const std::string side : {"user", "item"}) {
    layers += "  - embedding: {name: " + side + "_table, from: " + side + ", dim: 3}\n" +
              "  - concat: {name: " + side + "_all, from: [" + side + "_table, " + side +
              "_features]}\n" + "  - dense: {name: " + side +
              "_hidden, units: 5, activation: relu}\n" + "  - batch_norm: {name: " + side +
              "_norm, groups: 0}\n" + "  - dropout: {name: " + side + "_drop, rate: 0.25}\n" +
              "  - dense: {name: " + side + "_vector, units: 4}\n";
  }
  return {"recommend-two-tower",
          "inputs: {user: {}, item: {}, user_features: {}, item_features: {}}\n"
          "layers:\n" +
              layers +
              "  - dot: {name: score, from: [user_vector, item_vector]}\n"
              "loss: {bce: {target: label}}\n",
          {ids("user", 40), ids("item", 7), numbers("user_features", {2}),
           numbers("item_features", {3}), numbers("label", {1})},
          rule("sgd", 0, 0)};
}

Family mlp() {
  return {"recommend-mlp",
          "inputs: {user_features: {}}\n"
          "layers:\n"
          "  - dense: {from: user_features, units: 6, bias: false}\n"
          "  - batch_norm: {groups: 5}\n"
          "  - activation: {kind: relu}\n"
          "  - dropout: {rate: 0.4}\n"
          "  - dense: {units: classes}\n"
          "loss: {cross_entropy: {target: item}}\n",
          {numbers("user_features", {5}), ids("item", 7)},
          rule("adam", 0.02, 0)};
}

Family sentiment(bool sparse) {
  std::string layers = std::string("  - embedding: {name: words, from: tokens, dim: 3, sparse: ") +
                       (sparse ? "true" : "false") + "}\n";
  for (const std::string w : {"3", "4", "5"})
    layers += "  - conv1d: {name: conv" + w + ", from: words, filters: 3, width: " + w +
              ", activation: relu}\n  - max_over_time: {name: top" + w + "}\n";
  return {sparse ? "sentiment-cnn" : "sentiment-cnn-dense",
          "inputs: {tokens: {}}\n"
          "layers:\n" +
              layers +
              "  - concat: {name: all, from: [top3, top4, top5]}\n"
              "  - batch_norm: {groups: 2}\n"
              "  - dropout: {rate: 0.5}\n"
              "  - dense: {units: classes}\n"
              "loss: {cross_entropy: {target: label}}\n",
          {ids("tokens", 17, true), ids("label", 2)},
          sparse ? rule("adam", 0, 0) : rule("sgd", 0.01, 0.8)};
}

// A convolution's bias under a batch norm has no gradient but round-off; the larger epsilon keeps
// Adam from making whole steps of it.
Family image() {
  OptimizerConfig optimizer = rule("adam", 0, 0);
  optimizer.epsilon = 1e-4;
  Field image;
  image.name = "image";
  image.dtype = DType::u8;
  image.shape = {5, 6, 2};
  return {"image-cnn",
          "inputs: {image: {scale: 0.00392156862745098}}\n"
          "layers:\n"
          "  - conv2d: {from: image, filters: 3, kernel: 3, padding: 1}\n"
          "  - batch_norm: {groups: 3}\n"
          "  - activation: {kind: relu}\n"
          "  - max_pool2d: {size: 2, stride: 1}\n"
          "  - conv2d: {filters: 2, kernel: 2, activation: relu}\n"
          "  - max_pool2d: {size: 2}\n"
          "  - flatten: {}\n"
          "  - dropout: {rate: 0.3}\n"
          "  - dense: {units: classes}\n"
          "loss: {cross_entropy: {target: label}}\n",
          {image, ids("label", 4)},
          optimizer};
}

// Every size is small and odd. Blocks as in image-resnet50.yaml, with groups of channels.
Family residual() {
  const std::string norm = "batch_norm: {groups: 3}\n", relu = "activation: {kind: relu}\n";
  const auto branch = [&](const std::string& stride) {
    return "      - conv2d: {filters: $filters, kernel: 1, bias: false}\n      - " + norm +
           "      - " + relu + "      - conv2d: {filters: $filters, kernel: 3, stride: " + stride +
           ", padding: 1, groups: 2, bias: false}\n      - " + norm + "      - " + relu +
           "      - conv2d: {filters: $filters*2, kernel: 1, bias: false}\n"
           "      - batch_norm: {name: branch, groups: 3}\n";
  };
  Field image;
  image.name = "image";
  image.dtype = DType::u8;
  image.shape = {7, 6, 2};
  return {"image-resnet",
          "inputs: {image: {scale: 0.00392156862745098}}\n"
          "blocks:\n"
          "  same:\n    parameters: [filters]\n    layers:\n" +
              branch("1") +
              "      - add: {from: [branch, input], activation: relu}\n"
              "  first:\n    parameters: [filters, stride]\n    layers:\n" +
              branch("$stride") +
              "      - conv2d: {from: input, filters: $filters*2, kernel: 1, stride: $stride, "
              "bias: false}\n"
              "      - batch_norm: {name: shortcut, groups: 3}\n"
              "      - add: {from: [branch, shortcut], activation: relu}\n"
              "layers:\n"
              "  - conv2d: {from: image, filters: 4, kernel: 3, padding: 1, bias: false}\n"
              "  - batch_norm: {groups: 2}\n"
              "  - activation: {kind: relu}\n"
              "  - max_pool2d: {size: 3, stride: 1, padding: 1}\n"
              "  - avg_pool2d: {size: 2, stride: 1}\n"
              "  - use: {block: first, name: a, with: {filters: 2, stride: 2}}\n"
              "  - use: {block: same, name: b, repeat: 2, with: {filters: 2}}\n"
              "  - global_avg_pool: {}\n"
              "  - dropout: {rate: 0.2}\n"
              "  - dense: {units: classes}\n"
              "loss: {cross_entropy: {target: label}}\n",
          {image, ids("label", 4)},
          rule("sgd", 0.001, 0)};
}

const std::vector<Family>& families() {
  static const std::vector<Family> all = {
      behavior("rnn"), behavior("lstm"),  behavior("gru"), next_event(), two_tower(), mlp(),
      sentiment(true), sentiment(false), image(),         residual()};
  return all;
}

template <class T>
void store(std::vector<u8>& data, i64 index, T value) {
  std::memcpy(data.data() + static_cast<std::size_t>(index) * sizeof(T), &value, sizeof(T));
}

// Element `index`: a number in [-1.5, 1.5), an id, or a byte.
void fill(const Field& field, std::vector<u8>& data, i64 index, u64 key, bool padding) {
  const u64 bits = Stream(key).next_u64();
  const double unit = static_cast<double>(bits >> 11) * 0x1p-53;
  if (field.dtype == DType::u8) {
    store(data, index, padding ? u8{255} : static_cast<u8>(bits >> 56));
  } else if (field.classes > 0) {
    const auto id = static_cast<i32>(unit * static_cast<double>(field.classes));
    store(data, index, padding ? i32{-1} : id);
  } else {
    const float value =
        field.name == "label" ? (unit < 0.5 ? 0.0f : 1.0f) : static_cast<float>(3 * unit - 1.5);
    store(data, index, padding ? std::numeric_limits<float>::quiet_NaN() : value);
  }
}

void fill_row(const Field& field, const Input& input, BatchColumn& column, i64 slot, i64 row) {
  const i64 per_row = count(input.shape);
  const i64 steps = input.ragged ? input.shape[0] : 1;
  // Fields of one row share its length, as a target shares that of its sequence.
  const i64 length = row < 0 ? 0 : input.ragged ? 1 + (row * 7 + row / 5) % max_length : 1;
  if (input.ragged) column.lengths[static_cast<std::size_t>(slot)] = static_cast<i32>(length);
  for (i64 i = 0; i < per_row; ++i) {
    const bool padding = i / (per_row / steps) >= length;
    fill(field, column.data, slot * per_row + i,
         mix_key(name_key(field.name), static_cast<u64>(row), static_cast<u64>(i)), padding);
  }
}

}  // namespace

std::vector<std::string> family_names() {
  std::vector<std::string> names;
  for (const Family& family : families()) names.push_back(family.name);
  return names;
}

Family with_batch_norm(const std::string& name) {
  for (const Family& family : families())
    if (family.name == name) return family;
  throw std::runtime_error("no family " + name);
}

Family without_batch_norm(const std::string& name) {
  Family family = with_batch_norm(name);
  std::string& text = family.model;
  const std::string norm = "batch_norm: {", groups = "groups: ";
  for (auto at = text.find(norm); at != std::string::npos; at = text.find(norm)) {
    text.replace(at, norm.size(), "activation: {");
    const auto key = text.find(groups, at);
    text.replace(key, text.find('}', key) - key, "kind: none");
  }
  return family;
}

Batch rows_of(const Graph& graph, const std::vector<Field>& fields, i64 global_batch,
              const Slice& slice) {
  Batch batch;
  batch.epoch = slice.step / 3;
  batch.step = slice.step % 3;
  batch.capacity = slice.capacity;
  batch.row_ids.assign(static_cast<std::size_t>(slice.capacity), -1);
  batch.positions.assign(static_cast<std::size_t>(slice.capacity), -1);
  std::vector<i64> valid, padding;
  for (i64 p = slice.positions.begin; p < slice.positions.end; ++p)
    (batch.step == 2 && p % 3 == 1 ? padding : valid).push_back(p);
  batch.valid = static_cast<i64>(valid.size());
  valid.insert(valid.end(), padding.begin(), padding.end());
  for (std::size_t k = 0; k < valid.size(); ++k) {
    batch.positions[k] = static_cast<i32>(valid[k]);
    if (static_cast<i64>(k) < batch.valid)
      batch.row_ids[k] = batch.step * global_batch + (valid[k] * 5 + batch.epoch) % global_batch;
  }
  for (const Input& input : graph.inputs) {
    BatchColumn column;
    column.data.resize(
        static_cast<std::size_t>(slice.capacity * count(input.shape) * size_of(input.dtype)));
    if (input.ragged) column.lengths.resize(static_cast<std::size_t>(slice.capacity));
    const auto field = std::find_if(fields.begin(), fields.end(),
                                    [&](const Field& f) { return f.name == input.field; });
    for (i64 k = 0; k < slice.capacity; ++k)
      fill_row(*field, input, column, k, batch.row_ids[static_cast<std::size_t>(k)]);
    batch.columns.push_back(column);
  }
  return batch;
}

PlanConfig one_rank(const Family& family, i64 rows) {
  PlanConfig config;
  config.global_batch = config.rows = rows;
  config.train = true;
  config.seed = 5;
  config.bucket_bytes = 200;
  config.optimizer = family.optimizer;
  return config;
}

}  // namespace cohort::testing
