// Private to onnx*.cpp: an ONNX graph under construction. Names are strings, "" is no input.
#pragma once
#include <map>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "export/onnx.h"
#include <onnx/onnx_pb.h>

namespace cohort {

struct OnnxAttribute {
  const char* name;
  std::variant<i64, float, std::vector<i64>> value;
};
using OnnxAttributes = std::vector<OnnxAttribute>;

std::string data_file_of(const OnnxOptions& options);

class OnnxWriter {
 public:
  using Names = std::vector<std::string>;

  // Weights of more than `inline_tensor` bytes go to the file of this name; none: they stay here.
  void use_data_file(const std::string& file, i64 inline_tensor);

  // Ends of the model; Exit::usage for a name that is taken.
  void input(const OnnxTensor& tensor);
  void output(const OnnxTensor& tensor);
  // Not taken so far, and taken now: `base` or base_1, base_2, ...
  std::string unique(const std::string& base);

  // Appends a node; its result gets a name like `name`.
  std::string node(const char* op, const Names& in, const std::string& name,
                   const OnnxAttributes& attributes = {});
  // A node whose result is an output of the model, or one of several (the others are "").
  void node_as(const char* op, const Names& in, const Names& out,
               const OnnxAttributes& attributes = {});

  // A float32 weight; `make` is asked now, or when the data file is written.
  std::string weight(const std::string& name, const Shape& shape, OnnxBytes make);
  // Constants inside the model. `bytes`: little-endian elements. Equal small ones are stored once.
  std::string constant(const std::string& name, DType dtype, const Shape& shape,
                       std::string bytes);
  std::string floats(const std::string& name, const Shape& shape,
                     const std::vector<double>& values);
  std::string integers(const std::vector<i64>& values);    // int64 [n]
  std::string number(DType dtype, double value);           // a scalar

  onnx::GraphProto& graph() { return graph_; }
  std::vector<OnnxTensor> inputs, outputs;
  std::vector<OnnxExternal> external;

 private:
  onnx::TensorProto& initializer(const std::string& name, DType dtype, const Shape& shape);
  void take(const std::string& name);
  onnx::GraphProto graph_;
  std::set<std::string> names_;
  std::map<std::string, std::string> small_;   // what a small constant holds -> its name
  std::string data_file_;                      // empty: none
  i64 inline_tensor_ = 0;
};

i64 onnx_type(DType dtype);

}  // namespace cohort
