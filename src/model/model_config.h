// The `model` part of an experiment, as written. build.h makes a Graph of it.
//
//   inputs: {events: {field: events, max_length: 64, normalize: standard}}
//   layers:
//     - lstm: {from: events, units: 32}
//     - dense: {units: 1}
//   loss: {mse: {target: target}}
//
// Layers that come again are a block: written out where it is used, before layers are bound, so that
// a ModelConfig holds plain layers (base/config_blocks.cpp).
//
//   blocks:
//     residual:
//       parameters: [filters]
//       layers:
//         - conv2d: {filters: $filters, kernel: 3, padding: 1, bias: false}
//         - batch_norm: {name: branch}
//         - add: {from: [branch, input], activation: relu}   # input: what the block reads
//   layers:
//     - conv2d: {from: image, filters: 64, kernel: 3}
//     - use: {block: residual, name: stage1, repeat: 3, with: {filters: 64}}   # stage1.0.branch, ...
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "base/config.h"

namespace cohort {

struct InputConfig {
  std::string field;               // empty: the input's name
  i64 max_length = 0;              // ragged fields; 0: the longest row of the shard set
  std::string normalize = "none";  // standard: by the training split's mean and deviation
  double scale = 1;
  std::string place;
};

// One layer; which keys count depends on `kind`.
struct LayerConfig {
  std::string kind = "dense";
  std::string name;                // empty: <kind><index>
  std::string from;                // empty: the layer before
  std::vector<std::string> parts;  // concat, dot, add: their `from`
  std::string units = "1";         // a number, or "classes": those of the target
  std::string activation = "none";
  std::string output = "last";     // rnn, lstm, gru: last, every
  i64 layers = 1;
  i64 filters = 1, width = 1, kernel = 1, stride = 1, padding = 0;
  i64 channel_groups = 1;          // conv2d
  i64 size = 2, pool_stride = 0;   // pool_stride 0: size
  i64 dim = 1;
  double init_scale = 1;
  bool sparse = true;
  bool bias = true;
  i64 groups = 0;                  // batch_norm
  double momentum = 0.1, epsilon = 1e-5, rate = 0.5;
  std::string place;
};

struct LossConfig {
  std::string kind = "mse";        // mse, bce, cross_entropy
  std::string prediction;          // empty: the last layer
  std::string target;              // an input, or a field that becomes one
  std::string place;
};

struct ModelConfig {
  std::vector<std::pair<std::string, InputConfig>> inputs;
  std::vector<LayerConfig> layers;
  LossConfig loss;
};

void bind(Binder& b, InputConfig& c);
void bind(Binder& b, LayerConfig& c);
void bind(Binder& b, LossConfig& c);
void bind(Binder& b, ModelConfig& c);

}  // namespace cohort
