// Private to build*.cpp: the state of one build_graph() call.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/build.h"

namespace cohort {

class GraphBuilder {
 public:
  GraphBuilder(const ModelConfig& config, const std::vector<Field>& fields)
      : config_(config), fields_(fields) {}
  Graph build();

 private:
  // build.cpp: inputs, names and the loss
  const Field& field_named(const std::string& name, const std::string& place) const;
  void add_input(const std::string& name, const InputConfig& config);
  void add_target();
  void add_loss();
  void check_cross_entropy(const Value& prediction, const Value& target) const;
  i64 value_named(const std::string& name, const std::string& place) const;
  i64 add_value(const Value& value, const std::string& place);
  i64 add_param(Param param);

  // build_layers.cpp: one function per kind, all with the same shape
  void add_layer(const LayerConfig& layer, i64 index);
  i64 input_of(const LayerConfig& layer) const;
  void add_node(const LayerConfig& layer, Op op, Value out);
  void embedding(const LayerConfig& layer, i64 in);
  void recurrent(const LayerConfig& layer, i64 in);
  void conv1d(const LayerConfig& layer, i64 in);
  void max_over_time(const LayerConfig& layer, i64 in);
  void conv2d(const LayerConfig& layer, i64 in);
  void max_pool2d(const LayerConfig& layer, i64 in);
  void avg_pool2d(const LayerConfig& layer, i64 in);
  void global_avg_pool(const LayerConfig& layer, i64 in);
  void batch_norm(const LayerConfig& layer, i64 in);
  void elementwise(const LayerConfig& layer, i64 in);
  void combine(const LayerConfig& layer);
  void dot(const LayerConfig& layer);
  void add(const LayerConfig& layer);
  void concat(const LayerConfig& layer);
  void flatten(const LayerConfig& layer, i64 in);
  void dense(const LayerConfig& layer, i64 in);
  i64 units_of(const LayerConfig& layer) const;
  Shape pooled(const LayerConfig& layer, i64 in) const;
  void expect(bool fits, const LayerConfig& layer, i64 in, const std::string& wanted) const;
  const Value& value(i64 index) const { return graph_.values[static_cast<std::size_t>(index)]; }

  const ModelConfig& config_;
  const std::vector<Field>& fields_;
  Graph graph_;
  std::map<std::string, i64> names_;
  std::vector<i64> classes_;      // per value: its field's classes, 0 for real values
  i64 last_ = -1;                 // the value `from` defaults to
  std::string layer_name_;
  std::vector<i64> layer_in_, layer_params_;
};

}  // namespace cohort
