// Private to onnx*.cpp: turns the nodes of a graph into ONNX nodes, one emit() for each op.
#pragma once
#include <array>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "export/onnx_writer.h"
#include "model/graph.h"

namespace cohort {

// Where the channels of a value with steps or places stand: convolutions and pools of ONNX want
// them first, [N, C, T] or [N, C, H, W]; ours are last. Transposed where needed, once.
enum class Channels : u8 { last, first };

class OnnxEmitter {
 public:
  OnnxEmitter(const Graph& graph, const std::vector<NamedView>& weights, const OnnxPart& part,
              const OnnxOptions& options);
  OnnxWriter& run();   // emits everything

 private:
  using Names = OnnxWriter::Names;

  // onnx_emit.cpp: what is needed, values and weights
  void answer_last_step();
  void find_needed();
  void place_weights();
  void declare_inputs();
  void declare_outputs();
  void emit_node(const Node& node);
  const Value& value(i64 index) const { return graph_.values[static_cast<std::size_t>(index)]; }
  const Node& loss() const { return graph_.nodes.back(); }
  std::string read(i64 value, Channels layout = Channels::last);
  bool has(i64 value, Channels layout) const;
  Channels layout_of(i64 value) const;    // as it is there, channels last if both
  void set(i64 value, const std::string& name, Channels layout = Channels::last);
  void alias(i64 value, i64 of);
  const View& weight(const Node& node, std::size_t k) const;
  std::vector<double> numbers(const Node& node, std::size_t k) const;
  std::string parameter(const Node& node, std::size_t k);   // as it is
  std::string parameter_name(const Node& node, std::size_t k) const;
  std::string activated(Activation kind, const std::string& in, const std::string& name);

  // onnx_input.cpp: fields, and the lengths of ragged ones
  void emit(const Node& node, const Ingest& op);
  std::string normalised(const Input& input, const Ingest& op);
  std::string masked_input(const Input& input, const std::string& in, bool ids);
  bool ragged(i64 v) const { return value(v).lengths >= 0; }
  static bool may_be_empty(const Value& v) { return v.lengths >= 0 && v.shrink == 0; }
  std::string field_name(i64 input) const;
  std::string lengths_name(i64 input) const { return field_name(input) + "_lengths"; }
  std::string valid_steps_of(const Value& v);                        // int32 [N]
  std::string has_steps(const Value& v);                             // bool [N, 1]
  // Whether a step is valid: bool [N, T] with `rank` dimensions in all, of size 1; or [N, 1, T].
  std::string mask(const Value& v, Channels layout, i64 rank);
  // Zeros for the rows of `in`, [N, C], that have no steps.
  std::string or_zeros(const Value& v, const std::string& in);
  // `in` with `fill` beyond each row's valid steps, by the rule of v.
  std::string masked(const Value& v, const std::string& in, Channels layout, double fill);

  // onnx_layers.cpp
  void emit(const Node& node, const Dense& op);
  void emit(const Node& node, const Embedding& op);
  void emit(const Node& node, const BatchNorm& op);
  void emit(const Node& node, const Dropout& op);
  void emit(const Node& node, const Activate& op);
  void emit(const Node& node, const Concat& op);
  void emit(const Node& node, const Dot& op);
  void emit(const Node& node, const Add& op);
  void emit(const Node& node, const Flatten& op);
  void emit(const Node& node, const Loss& op);

  // onnx_steps.cpp
  void emit(const Node& node, const Recurrent& op);
  void emit(const Node& node, const Conv1d& op);
  void emit(const Node& node, const MaxOverTime& op);
  std::string gates(const Node& node, std::size_t k, const std::vector<i64>& blocks, i64 units);
  std::string largest_step(const Value& ruled, const std::string& in, Channels layout,
                           const std::string& name);

  // onnx_images.cpp
  void emit(const Node& node, const Conv2d& op);
  void emit(const Node& node, const MaxPool2d& op);
  void emit(const Node& node, const AvgPool2d& op);
  void emit(const Node& node, const GlobalAvgPool& op);
  std::string image(const Node& node);

  // onnx_heads.cpp
  void declare_heads();
  void emit_heads();
  void emit_value(const std::string& prediction);
  bool answers_every_step() const;
  std::string last_step(i64 v);

  Graph graph_;   // own: see answer_last_step()
  struct LastStep {
    i64 of = -1, value = -1;   // values; -1: the model answers once
  } last_step_;
  const std::vector<NamedView>& weights_;
  const OnnxPart& part_;
  const OnnxOptions& options_;
  OnnxWriter writer_;
  std::vector<bool> needed_;                          // per value
  std::map<i64, std::array<std::string, 2>> values_;  // by value: its name, channels last and first
  std::set<i64> zeroed_;                              // values that are zero beyond the length
  std::map<std::tuple<i64, i64>, std::string> valid_steps_;            // lengths, shrink
  std::map<std::tuple<i64, i64, std::vector<i64>>, std::string> masks_;   // and new axes
};

}  // namespace cohort
