#include <algorithm>

#include "base/text.h"
#include "model/build_impl.h"

namespace cohort {
namespace {

Activation activation_from(const std::string& name) {
  if (name == "relu") return Activation::relu;
  if (name == "tanh") return Activation::tanh;
  if (name == "sigmoid") return Activation::sigmoid;
  return Activation::none;
}

Param uniform(const std::string& name, const Shape& shape, i64 fan_in, bool decay) {
  Param param;
  param.name = name;
  param.shape = shape;
  param.init = Init::uniform_fan_in;
  param.init_scale = static_cast<double>(fan_in);
  param.decay = decay;
  return param;
}

Cell cell_from(const std::string& kind) {
  if (kind == "lstm") return Cell::lstm;
  return kind == "gru" ? Cell::gru : Cell::tanh;
}

i64 stride_of(const LayerConfig& pool) { return pool.pool_stride ? pool.pool_stride : pool.size; }

}  // namespace

void GraphBuilder::expect(bool fits, const LayerConfig& layer, i64 in,
                          const std::string& wanted) const {
  if (fits) return;
  const Value& v = value(in);
  fail(Exit::usage, "{}: layer '{}' ({}): expected {}, '{}' gives {}{}", layer.place, layer_name_,
       layer.kind, wanted, v.name, v.integer ? "ids " : "", to_string(v.shape));
}

i64 GraphBuilder::units_of(const LayerConfig& layer) const {
  if (const auto number = parse_i64(layer.units)) return *number;
  const i64 classes = classes_[static_cast<std::size_t>(graph_.target)];
  if (classes > 0) return classes;
  fail(Exit::usage, "{}: layer '{}': units: classes needs a target of class ids, '{}' holds "
       "numbers; give a number", layer.place, layer_name_, value(graph_.target).name);
}

i64 GraphBuilder::input_of(const LayerConfig& layer) const {
  if (!layer.from.empty()) return value_named(layer.from, layer.place);
  if (last_ >= 0) return last_;
  fail(Exit::usage, "{}: layer '{}' has no input; name one with from", layer.place, layer_name_);
}

void GraphBuilder::add_node(const LayerConfig& layer, Op op, Value out) {
  out.name = layer_name_;
  last_ = add_value(out, layer.place);
  graph_.nodes.push_back({layer_name_, std::move(op), layer_in_, {last_}, layer_params_,
                          layer.place});
  layer_params_.clear();
}

void GraphBuilder::add_layer(const LayerConfig& layer, i64 index) {
  layer_name_ = layer.name.empty() ? layer.kind + std::to_string(index) : layer.name;
  layer_params_.clear();
  if (layer.kind == "concat" || layer.kind == "dot" || layer.kind == "add") return combine(layer);
  const i64 in = input_of(layer);
  layer_in_ = {in};
  if (layer.kind == "embedding") return embedding(layer, in);
  expect(!value(in).integer, layer, in, "numbers (ids go through an embedding first)");
  if (layer.kind == "rnn" || layer.kind == "lstm" || layer.kind == "gru")
    return recurrent(layer, in);
  if (layer.kind == "conv1d") return conv1d(layer, in);
  if (layer.kind == "max_over_time") return max_over_time(layer, in);
  if (layer.kind == "conv2d") return conv2d(layer, in);
  if (layer.kind == "max_pool2d") return max_pool2d(layer, in);
  if (layer.kind == "avg_pool2d") return avg_pool2d(layer, in);
  if (layer.kind == "global_avg_pool") return global_avg_pool(layer, in);
  if (layer.kind == "batch_norm") return batch_norm(layer, in);
  if (layer.kind == "flatten") return flatten(layer, in);
  if (layer.kind == "dense") return dense(layer, in);
  elementwise(layer, in);
}

void GraphBuilder::embedding(const LayerConfig& layer, i64 in) {
  expect(value(in).integer, layer, in, "ids of a field with classes");
  const i64 rows = classes_[static_cast<std::size_t>(in)];
  Param table;
  table.name = layer_name_ + ".weight";
  table.shape = {rows, layer.dim};
  table.init = Init::normal;
  table.init_scale = layer.init_scale;
  table.sparse = layer.sparse;
  layer_params_ = {add_param(table)};
  Value out = value(in);
  out.integer = false;
  out.shape.push_back(layer.dim);
  add_node(layer, Embedding{rows, layer.dim, layer.sparse}, out);
}

void GraphBuilder::recurrent(const LayerConfig& layer, i64 in) {
  expect(value(in).shape.size() == 2, layer, in, "a sequence [steps, features]");
  const std::string name = layer_name_;
  const i64 units = units_of(layer);
  const Cell cell = cell_from(layer.kind);
  const i64 gates = gates_of(cell) * units;
  for (i64 k = 0; k < layer.layers; ++k) {
    const bool final_layer = k + 1 == layer.layers;
    layer_name_ = final_layer ? name : name + "." + std::to_string(k);
    const Value source = value(layer_in_[0]);
    layer_params_ = {
        add_param(uniform(layer_name_ + ".weight_ih", {gates, source.shape[1]}, units, true)),
        add_param(uniform(layer_name_ + ".weight_hh", {gates, units}, units, true)),
        add_param(uniform(layer_name_ + ".bias", {biases_of(cell) * units}, units, false))};
    const bool every = !final_layer || layer.output == "every";
    Value out = source;
    out.shape = every ? Shape{source.shape[0], units} : Shape{units};
    if (!every) out.lengths = -1, out.shrink = 0;
    add_node(layer, Recurrent{cell, units, every}, out);
    layer_in_ = {last_};
  }
}

void GraphBuilder::conv1d(const LayerConfig& layer, i64 in) {
  const Value source = value(in);
  expect(source.shape.size() == 2, layer, in, "a sequence [steps, features]");
  expect(source.shape[0] >= layer.width, layer, in,
         "at least width = " + std::to_string(layer.width) + " steps (raise max_length)");
  const i64 features = source.shape[1], fan = layer.width * features;
  layer_params_ = {
      add_param(uniform(layer_name_ + ".weight", {layer.filters, layer.width, features}, fan, true)),
      add_param(uniform(layer_name_ + ".bias", {layer.filters}, fan, false))};
  Value out = source;
  out.shape = {source.shape[0] - layer.width + 1, layer.filters};
  if (source.lengths >= 0) out.shrink += layer.width - 1;
  add_node(layer, Conv1d{layer.filters, layer.width, activation_from(layer.activation), false}, out);
}

void GraphBuilder::max_over_time(const LayerConfig& layer, i64 in) {
  expect(value(in).shape.size() == 2, layer, in, "a sequence [steps, features]");
  Value out;
  out.shape = {value(in).shape[1]};
  add_node(layer, MaxOverTime{}, out);
}

void GraphBuilder::conv2d(const LayerConfig& layer, i64 in) {
  const Value source = value(in);
  expect(source.shape.size() == 3, layer, in, "an image [height, width, channels]");
  const auto extent = [&](std::size_t axis) {
    const i64 room = source.shape[axis] + 2 * layer.padding - layer.kernel;
    expect(room >= 0, layer, in, "sides of at least kernel - 2 * padding = " +
                                     std::to_string(layer.kernel - 2 * layer.padding));
    return room / layer.stride + 1;
  };
  const i64 groups = layer.channel_groups, k = layer.kernel;
  expect(source.shape[2] % groups == 0 && layer.filters % groups == 0, layer, in,
         "channels and filters (" + std::to_string(layer.filters) + ") that groups = " +
             std::to_string(groups) + " divides");
  const i64 channels = source.shape[2] / groups, fan = k * k * channels;
  layer_params_ = {add_param(
      uniform(layer_name_ + ".weight", {layer.filters, k, k, channels}, fan, true))};
  if (layer.bias)
    layer_params_.push_back(add_param(uniform(layer_name_ + ".bias", {layer.filters}, fan, false)));
  Value out;
  out.shape = {extent(0), extent(1), layer.filters};
  add_node(layer, Conv2d{layer.filters, k, layer.stride, layer.padding,
                         activation_from(layer.activation), 0, groups, layer.bias}, out);
}

Shape GraphBuilder::pooled(const LayerConfig& layer, i64 in) const {
  const Shape& source = value(in).shape;
  const i64 least = layer.size - 2 * layer.padding;
  expect(source.size() == 3 && source[0] >= least && source[1] >= least, layer, in,
         "an image [height, width, channels] with sides of at least " + std::to_string(least));
  const auto extent = [&](i64 n) { return (n - least) / stride_of(layer) + 1; };
  return {extent(source[0]), extent(source[1]), source[2]};
}

void GraphBuilder::max_pool2d(const LayerConfig& layer, i64 in) {
  if (2 * layer.padding > layer.size)
    fail(Exit::usage, "{}: layer '{}' (max_pool2d): expected padding of at most half the size {}, "
         "got {}", layer.place, layer_name_, layer.size, layer.padding);
  Value out;
  out.shape = pooled(layer, in);
  add_node(layer, MaxPool2d{layer.size, stride_of(layer), layer.padding}, out);
}

void GraphBuilder::avg_pool2d(const LayerConfig& layer, i64 in) {
  Value out;
  out.shape = pooled(layer, in);
  add_node(layer, AvgPool2d{layer.size, stride_of(layer)}, out);
}

void GraphBuilder::global_avg_pool(const LayerConfig& layer, i64 in) {
  expect(value(in).shape.size() == 3, layer, in, "an image [height, width, channels]");
  Value out;
  out.shape = {value(in).shape[2]};
  add_node(layer, GlobalAvgPool{}, out);
}

void GraphBuilder::batch_norm(const LayerConfig& layer, i64 in) {
  const Value source = value(in);
  expect(!source.shape.empty(), layer, in, "at least one dimension");
  const char* parts[] = {".weight", ".bias", ".running_mean", ".running_var"};
  for (int k = 0; k < 4; ++k) {
    Param param;
    param.name = layer_name_ + parts[k];
    param.shape = {source.shape.back()};
    param.init = k == 0 || k == 3 ? Init::ones : Init::zeros;
    param.decay = false;
    param.running = k >= 2;
    layer_params_.push_back(add_param(param));
  }
  add_node(layer, BatchNorm{layer.epsilon, layer.momentum, layer.groups}, source);
}

void GraphBuilder::elementwise(const LayerConfig& layer, i64 in) {
  const Value out = value(in);
  if (layer.kind == "dropout") return add_node(layer, Dropout{layer.rate}, out);
  add_node(layer, Activate{activation_from(layer.activation)}, out);
}

void GraphBuilder::combine(const LayerConfig& layer) {
  layer_in_.clear();
  for (const std::string& name : layer.parts)
    layer_in_.push_back(value_named(name, layer.place));
  if (layer_in_.size() < 2 || (layer.kind == "dot" && layer_in_.size() != 2))
    fail(Exit::usage, "{}: layer '{}' ({}): expected {} values in from, got {}", layer.place,
         layer_name_, layer.kind, layer.kind == "dot" ? "two" : "at least two", layer_in_.size());
  if (layer.kind == "dot") return dot(layer);
  if (layer.kind == "add") return add(layer);
  concat(layer);
}

void GraphBuilder::dot(const LayerConfig& layer) {
  Value out = value(layer_in_[0]);
  for (i64 in : layer_in_)
    expect(!value(in).integer && value(in).shape.size() == 1 && value(in).shape == out.shape,
           layer, in, "two vectors of equal size, the first is " + to_string(out.shape));
  out.shape = {1};
  add_node(layer, Dot{}, out);
}

void GraphBuilder::add(const LayerConfig& layer) {
  const Value out = value(layer_in_[0]);
  for (i64 in : layer_in_) {
    const Value& v = value(in);
    expect(!v.integer && v.shape == out.shape && v.lengths == out.lengths && v.shrink == out.shrink,
           layer, in, "numbers of the shape " + to_string(out.shape) + " of '" + out.name + "'" +
                          (out.lengths >= 0 ? ", of the same sequence" : ""));
  }
  add_node(layer, Add{activation_from(layer.activation)}, out);
}

void GraphBuilder::concat(const LayerConfig& layer) {
  Value out = value(layer_in_[0]);
  i64 width = 0;
  for (i64 in : layer_in_) {
    const Value& v = value(in);
    expect(!v.integer && !v.shape.empty() && v.shape.size() == out.shape.size() &&
               std::equal(v.shape.begin(), v.shape.end() - 1, out.shape.begin()) &&
               v.lengths == out.lengths && v.shrink == out.shrink,
           layer, in, "numbers equal to " + to_string(out.shape) +
                          " but for the last dimension, of the same sequence");
    width += v.shape.back();
  }
  out.shape.back() = width;
  add_node(layer, Concat{}, out);
}

void GraphBuilder::flatten(const LayerConfig& layer, i64 in) {
  expect(value(in).lengths < 0, layer, in, "a fixed shape (pool a sequence over time first)");
  Value out;
  out.shape = {count(value(in).shape)};
  add_node(layer, Flatten{}, out);
}

void GraphBuilder::dense(const LayerConfig& layer, i64 in) {
  const Value source = value(in);
  expect(source.shape.size() == 1 || source.shape.size() == 2, layer, in,
         "[features] or [steps, features] (add a flatten layer)");
  const i64 units = units_of(layer), features = source.shape.back();
  layer_params_ = {
      add_param(uniform(layer_name_ + ".weight", {units, features}, features, true))};
  if (layer.bias)
    layer_params_.push_back(add_param(uniform(layer_name_ + ".bias", {units}, features, false)));
  Value out = source;
  out.shape.back() = units;
  add_node(layer, Dense{units, layer.bias, activation_from(layer.activation)}, out);
}

}  // namespace cohort
