// What is computed: plain data, in topological order.
#pragma once
#include <string>
#include <vector>

#include "model/op.h"
#include "tensor/layout.h"

namespace cohort {

struct Value {
  std::string name;
  Shape shape;               // of one row (padded T first for sequences)
  bool integer = false;      // ids (i32); else real: the device's float type
  i64 lengths = -1;          // index into Graph::inputs of the ragged field whose lengths rule it
  i64 shrink = 0;            // valid steps: shrink == 0 ? length : max(1, length - shrink)
};

// Valid steps of a row whose ragged field has `length` elements.
inline i64 valid_steps(const Value& value, i64 length) {
  if (value.shrink == 0) return length;
  return length - value.shrink > 1 ? length - value.shrink : 1;
}

// A field staged for every row: raw dtype; ragged ones also stage i32 lengths [rows].
struct Input {
  std::string field;
  DType dtype = DType::f32;
  Shape shape;               // padded to max_length for ragged fields
  bool ragged = false;
  i64 max_length = 0;        // longer rows keep their last max_length elements
  i64 value = -1;            // the graph value it becomes
};

enum class Init : u8 { zeros, ones, uniform_fan_in, normal, xavier, lstm_bias };
struct Param {
  std::string name;          // "<layer>.weight"
  Shape shape;
  Init init = Init::zeros;   // keyed by (seed, name): see model/init.h
  double init_scale = 1;
  bool decay = true;         // weight decay applies (not to biases and batch norm)
  bool sparse = false;       // row-sparse embedding table
  bool running = false;      // running statistics: no gradient, updated by the optimizer's rule
  bool frozen = false;       // training leaves it as it is: no update, no decay, no part in norms
};

struct Node {
  std::string name;
  Op op;
  std::vector<i64> in, out;  // values
  std::vector<i64> params;   // indices into Graph::params
  std::string place;         // file:line:column of the layer
};

struct Graph {
  std::vector<Input> inputs;
  std::vector<Value> values;
  std::vector<Param> params;
  std::vector<Node> nodes;   // Ingest nodes first, the Loss node last
  i64 prediction = -1;       // the value that the loss and the metrics read (logits)
  i64 target = -1;
};

}  // namespace cohort
