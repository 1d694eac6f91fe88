// Private to bundle*.cpp.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/config.h"
#include "serve/bundle.h"

namespace cohort {

// The YAML in manifest.json under "model": what the graph is built from again.
struct ServedModel {
  ModelConfig model;
};
void bind(Binder& b, ServedModel& m);

std::string golden_text(const std::vector<GoldenRow>& rows);       // golden.jsonl
std::string readme_text(const nlohmann::json& facts, const BundleContent& content);
// Inputs and outputs of model.onnx: name, dtype, shape with "N" and "T".
nlohmann::json inputs_json(const Graph& graph);
nlohmann::json outputs_json(const Graph& graph);
// File name and bytes of every ONNX model of a bundle.
std::vector<std::pair<std::string, std::string>> onnx_models(const Graph& graph,
                                                             const std::vector<NamedView>& weights,
                                                             i64 opset);

Items items_of(const TowerRows& rows, const View& vectors);

}  // namespace cohort
