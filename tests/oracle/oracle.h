// Models, weights, rows and answers that PyTorch computed (fixtures/*.json, made by make_fixtures.py
// in float64), and the checks of any device against them.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

#include "replica.h"

namespace cohort::testing {

using Json = nlohmann::ordered_json;

inline constexpr const char* oracle_names[] = {
    "behavior-rnn",  "behavior-lstm", "behavior-gru",    "behavior-next-event",
    "recommend-two-tower", "recommend-mlp", "sentiment-cnn", "image-cnn",
    "image-resnet",  "batch-norm-rows", "batch-norm-steps", "batch-norm-image"};

struct Oracle {
  Json fixture;
  Graph graph;
  Batch batch;
  PlanConfig config;
  Oracle(const std::string& name, bool fused);
};

// |a - b| <= tolerance * max |b| for each tensor; failures are reported to GoogleTest.
void check_logits(Oracle& oracle, Device& device, double tolerance);
// All gradients, ten losses, running statistics.
void check_training(Oracle& oracle, Device& device, double tolerance);

}  // namespace cohort::testing
