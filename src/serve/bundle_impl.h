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
struct BundledModel {
  ModelConfig model;
};
void bind(Binder& b, BundledModel& m);

std::string golden_text(const std::vector<GoldenRow>& rows);       // golden.jsonl
std::string readme_text(const nlohmann::json& facts, const BundleContent& content);
Items items_of(const TowerRows& rows, const View& vectors);

}  // namespace cohort
