#include "models.h"

#include <stdexcept>

namespace cohort::testing {
namespace {

constexpr i64 longest = 6;

Field field(const std::string& name, DType dtype, Shape shape, bool ragged = false,
            i64 classes = 0) {
  Field made;
  made.name = name;
  made.dtype = dtype;
  made.ragged = ragged;
  made.classes = classes;
  made.stats.max_length = ragged ? longest : 0;
  for (i64 c = 0; classes == 0 && c < (shape.empty() ? 1 : shape.back()); ++c) {
    made.stats.mean.push_back(0.25 * static_cast<double>(c) - 0.125);
    made.stats.stddev.push_back(0.5 + static_cast<double>(c));
  }
  made.shape = std::move(shape);
  return made;
}

Field events(i64 width) { return field("events", DType::f32, {width}, true); }
Field ids(const std::string& name, i64 classes, bool ragged = false) {
  return field(name, DType::i32, {}, ragged, classes);
}

Family family(const std::string& name, const std::string& inputs, const std::string& layers,
              const std::string& loss, const std::vector<Field>& fields) {
  return {name, "inputs: {" + inputs + "}\nlayers:\n" + layers + "loss: {" + loss + "}\n", fields,
          {}};
}

const std::string classes_of_label = "  - dense: {units: classes}\n";
const std::string by_label = "cross_entropy: {target: label}";

std::vector<Family> sequences() {
  const std::string normal = "events: {normalize: standard}";
  return {
      // Convolutions that follow one another, then an LSTM over what is left of the steps.
      family("steps-conv-conv-lstm", normal,
             "  - conv1d: {filters: 4, width: 3, activation: tanh}\n"
             "  - batch_norm: {}\n"
             "  - conv1d: {filters: 5, width: 2}\n"
             "  - lstm: {units: 3}\n" + classes_of_label,
             by_label, {events(2), ids("label", 3)}),
      // Valid steps that a row has none of: the pool of an every-step GRU.
      family("steps-gru-max", normal,
             "  - gru: {units: 4, output: every, layers: 2}\n"
             "  - dense: {units: 3, activation: sigmoid}\n"
             "  - max_over_time: {}\n"
             "  - dense: {units: 1}\n",
             "bce: {target: label}", {events(2), field("label", DType::f32, {1})}),
      // width 1 keeps rows without steps; both ways end in one vector.
      family("steps-narrow-conv", normal,
             "  - conv1d: {name: a, filters: 3, width: 1, activation: relu}\n"
             "  - max_over_time: {name: pa}\n"
             "  - conv1d: {name: b, from: events, filters: 3, width: 1}\n"
             "  - add: {name: ab, from: [a, b, b], activation: sigmoid}\n"
             "  - concat: {name: both, from: [ab, b]}\n"
             "  - rnn: {name: r, units: 4}\n"
             "  - concat: {from: [pa, r]}\n"
             "  - dense: {units: 2}\n",
             "mse: {target: target}", {events(2), field("target", DType::f32, {2})}),
      // Answers at every step, of numbers; a number without dimensions at each.
      family("steps-answers", "price: {normalize: standard, scale: 0.5}",
             "  - rnn: {units: 3, output: every}\n"
             "  - conv1d: {filters: 4, width: 1, activation: relu}\n"
             "  - dense: {units: 1}\n",
             "mse: {target: target}",
             {field("price", DType::f32, {}, true), field("target", DType::f32, {1}, true)}),
      // Two sequences of lengths of their own.
      family("steps-two-fields", "tokens: {}, " + normal,
             "  - embedding: {name: words, from: tokens, dim: 3, sparse: false}\n"
             "  - gru: {name: g, units: 3}\n"
             "  - conv1d: {name: c, from: events, filters: 4, width: 4, activation: relu}\n"
             "  - max_over_time: {name: m}\n"
             "  - concat: {from: [g, m]}\n" + classes_of_label,
             by_label, {ids("tokens", 11, true), events(3), ids("label", 3)}),
      // Steps of fixed number.
      family("steps-fixed", "table: {normalize: standard}",
             "  - conv1d: {name: c, filters: 3, width: 2, activation: relu}\n"
             "  - max_over_time: {name: m}\n"
             "  - lstm: {name: l, from: c, units: 3, output: every}\n"
             "  - batch_norm: {name: n}\n"
             "  - gru: {name: g, units: 2}\n"
             "  - flatten: {name: f, from: n}\n"
             "  - concat: {from: [m, g, f]}\n" + classes_of_label,
             by_label, {field("table", DType::f32, {5, 2}), ids("label", 3)}),
      // An answer for each of them.
      family("steps-fixed-answers", "table: {}",
             "  - rnn: {units: 4, output: every}\n"
             "  - batch_norm: {}\n"
             "  - activation: {kind: tanh}\n" + classes_of_label,
             by_label, {field("table", DType::f32, {5, 2}), [] {
                          Field labels = ids("label", 3);
                          labels.shape = {5};
                          return labels;
                        }()})};
}

std::vector<Family> others() {
  return {
      // Raw numbers of every type; one with a mean that float32 does not hold.
      family("numbers", "small: {normalize: standard}, far: {normalize: standard}, flag: {}, "
                        "count: {scale: 0.5}, exact: {}",
             "  - concat: {from: [small, far, flag, count, exact]}\n"
             "  - dense: {units: 4, activation: tanh, bias: false}\n" + classes_of_label,
             by_label,
             {field("small", DType::f32, {2}), [] {
                Field far = field("far", DType::f64, {});
                far.stats.mean = {1.7e9};
                far.stats.stddev = {1.5};
                return far;
              }(),
              field("flag", DType::u8, {2}), field("count", DType::i64, {}),
              field("exact", DType::f32, {1}), ids("label", 3)}),
      family("image-pools", "image: {scale: 0.0039, normalize: standard}",
             "  - conv2d: {filters: 4, kernel: 3, stride: 2, padding: 1, activation: sigmoid}\n"
             "  - conv2d: {name: c, filters: 4, kernel: 2, groups: 2, activation: relu}\n"
             "  - max_pool2d: {size: 2}\n"
             "  - batch_norm: {name: n}\n"
             "  - activation: {kind: tanh}\n"
             "  - avg_pool2d: {name: p, size: 2, stride: 1}\n"
             "  - flatten: {name: f}\n"
             "  - max_pool2d: {name: q, from: c, size: 3, stride: 2, padding: 1}\n"
             "  - global_avg_pool: {name: g}\n"
             "  - concat: {from: [f, g]}\n" + classes_of_label,
             by_label, {field("image", DType::u8, {11, 13, 3}), ids("label", 4)}),
      // The same picture by two ways that end in one of another number of channels.
      family("image-concat", "image: {}",
             "  - concat: {name: twice, from: [image, image]}\n"
             "  - conv2d: {name: a, filters: 2, kernel: 1}\n"
             "  - conv2d: {name: b, from: image, filters: 3, kernel: 1, activation: relu}\n"
             "  - concat: {name: ab, from: [a, b, image]}\n"
             "  - batch_norm: {}\n"
             "  - flatten: {}\n"
             "  - dense: {units: 1}\n",
             "bce: {target: label}",
             {field("image", DType::f32, {3, 2, 2}), field("label", DType::f32, {1})})};
}

const std::vector<Family>& extra() {
  static const std::vector<Family> all = [] {
    std::vector<Family> found = sequences();
    for (Family& other : others()) found.push_back(other);
    return found;
  }();
  return all;
}

}  // namespace

std::vector<std::string> exported_names() {
  std::vector<std::string> names = family_names();
  for (const Family& one : extra()) names.push_back(one.name);
  return names;
}

Family exported(const std::string& name) {
  for (const Family& one : extra())
    if (one.name == name) return one;
  return with_batch_norm(name);
}

}  // namespace cohort::testing
