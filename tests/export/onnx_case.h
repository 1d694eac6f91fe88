// A model of random weights, rows, and what the reference device (float64) answers.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "export/onnx.h"
#include "models.h"

namespace cohort::testing {

struct OnnxCase {
  OnnxCase(const std::string& name, bool fused);

  Graph graph;
  Batch batch;                          // rows of every length from 0 to the longest
  std::vector<std::vector<double>> weight_numbers;
  std::vector<NamedView> weights;       // double
  std::map<std::string, std::vector<double>> answers;   // by output: [rows, ...]
  OnnxOptions options;                  // with mse: a target, of whose `value` are answers too
};

// cases/<model>.onnx, rows.safetensors (fields, lengths, "answer/<output>") for run_onnx.py.
void write_rows(const OnnxCase& c, const std::string& path);

}  // namespace cohort::testing
