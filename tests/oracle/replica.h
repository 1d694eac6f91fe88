// One model on one device, driven through its plans as the trainer drives them.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fields/schema.h"
#include "model/build.h"
#include "plan/plan.h"

namespace cohort::testing {

using Values = std::map<std::string, std::vector<double>>;  // by parameter or tensor name

Graph graph_from(const std::string& model, const std::vector<Field>& fields, bool fused);

std::vector<double> read(Device& device, const View& view);
void write(Device& device, const View& view, const std::vector<double>& values);

// |a - b| <= tolerance * max(floor, max |b|) for every element; a NaN on either side fails.
// Returns an empty string, or what differs first.
std::string difference(const std::vector<double>& a, const std::vector<double>& b, double tolerance,
                       double floor = 0);
std::string difference(const Values& a, const Values& b, double tolerance, double floor = 0);

// The rows of every sparse table that a batch touches, united over the ranks.
std::vector<SparseRows> sparse_rows(const Graph& graph, const Batch& batch, Communicator& channel);

std::string test_name(std::string name);  // "image-cnn" -> "image_cnn"

class Replica {
 public:
  Replica(Device& device, const Graph& graph, const PlanConfig& config);
  Plan& plan() { return *plan_; }
  ModelState& state() { return *state_; }
  Values tensors() const;  // everything that a checkpoint holds
  void restore(const Values& tensors);
  // After Plan::gradients or Plan::step: by parameter, sparse ones scattered to the full table.
  Values gradients() const;

 private:
  Device& device_;
  const Graph& graph_;
  std::unique_ptr<ModelState> state_;
  std::unique_ptr<Plan> plan_;
};

}  // namespace cohort::testing
