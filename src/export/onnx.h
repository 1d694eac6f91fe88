// A graph with its weights as an ONNX model, of standard operators alone.
//
// Inputs are the fields that the answer depends on, as staged: u8 pictures [N, H, W, C], numbers,
// ids (int32). A ragged field is [N, T, ...] with `<field>_lengths`, int32 [N], of at most T; what
// stands beyond a row's length is not looked at. N and T may be any at each call: T is 1 or more
// and need not be the graph's max_length. Normalisation is part of the model.
//
// Outputs follow the loss: mse `prediction` [N, units], `value` too by OnnxOptions::target; bce
// `logit` and `probability` [N, 1]; cross_entropy `logits` and `probabilities` [N, classes]. A model that answers every step gives
// the answer at the last step of the row; a row without steps gets the answer of zero logits
// (mse: zeros). What a row is answered depends neither on T nor on the rows beside it.
//
// A model of many weights is two files: protobuf holds at most 2 GiB in one message, so that large
// weights stand in a data file beside it (ONNX: external data), which the model names.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/graph.h"
#include "model/target_rule.h"
#include "store/files.h"

namespace cohort {

struct OnnxTensor {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::string> dims;       // "N", "T" (several ragged fields: "T_<field>") or a number
};
struct OnnxOptions {
  i64 opset = 13;                      // 13 (IR 7) or 17 (IR 8)
  std::string producer_version;
  // Where the weights are more bytes than this, those of more than `inline_tensor` bytes go to the
  // data file; -1: always.
  i64 inline_model = i64{3} << 29;
  i64 inline_tensor = 1024;
  std::string file = "model.onnx";     // the data file is `file`.data
  std::optional<TargetRule> target{};  // mse: `value` is what a prediction stands for
};

// Hands out the bytes of a weight in order, a piece at a time; reads the weights that it is of.
using OnnxSink = std::function<void(const void* data, i64 bytes)>;
using OnnxBytes = std::function<void(const OnnxSink& sink)>;

// A weight in the data file: at a multiple of 4096 bytes, from 1 MiB on of 65536, for mmap.
struct OnnxExternal {
  std::string name;
  i64 offset = 0, bytes = 0;
  OnnxBytes make;
};
struct OnnxModel {
  std::string bytes;                   // the file: equal for equal arguments
  std::vector<OnnxTensor> inputs, outputs;
  std::string data_file;               // its name
  std::vector<OnnxExternal> external;  // empty: there is no data file
};

// `graph` is fused or not; `weights` are in host memory, named as the graph's parameters, in any
// real type; more of them are no error. What is made has passed ONNX's checker and strict shape
// inference.
// `weights` are read again by write_onnx_data().
// Exit::usage where a model cannot be expressed: another opset, more than 2 GiB in one file, a
// field of the name of an output. Exit::storage for a weight that is missing or of another shape.
OnnxModel to_onnx(const Graph& graph, const std::vector<NamedView>& weights,
                  const OnnxOptions& options = {});

// The data file of a model that has one; the weights that it was made from must still be there.
void write_onnx_data(FileWriter& out, const OnnxModel& model);
// ONNX's checker on the file at `path` of the real file system, and that its data file holds what
// the model says. Exit::storage.
void check_onnx_file(const std::string& path);

// From some values of the graph to others.
struct OnnxEnd {
  i64 value = -1;
  std::string name;                    // of the model's input or output
};
struct OnnxPart {
  std::vector<OnnxEnd> from;           // inputs of the model, float32 [N, ...], not ragged
  std::vector<OnnxEnd> to;             // its outputs; none: those of the loss
};
OnnxModel to_onnx_part(const Graph& graph, const std::vector<NamedView>& weights,
                       const OnnxPart& part, const OnnxOptions& options = {});

// The two vectors of a two-tower model: the inputs of the last Dot that the prediction depends on,
// where they come from different fields and the prediction has no way around them. By the order of
// the Dot's inputs the first is the user's.
struct Towers {
  i64 user = -1, item = -1;            // values [dim]
  std::vector<i64> user_inputs, item_inputs;   // indices into Graph::inputs
};
std::optional<Towers> towers_of(const Graph& graph);

// Towers: inputs -> `vector` [N, dim]. Scorer: `user_vector`, `item_vector` -> as to_onnx(). Their
// files are user_tower.onnx, item_tower.onnx and scorer.onnx, whatever `options` say.
struct TowerModels {
  OnnxModel user, item, scorer;
};
TowerModels to_onnx_towers(const Graph& graph, const Towers& towers,
                           const std::vector<NamedView>& weights, const OnnxOptions& options = {});

}  // namespace cohort
