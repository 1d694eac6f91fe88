// A graph with its weights on the CPU: rows in, predictions out.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "data/loader.h"
#include "device/device.h"
#include "model/graph.h"
#include "plan/plan.h"

namespace cohort {

// With the best instruction set there is; threads 0: all cores this process may use.
std::shared_ptr<Device> make_serving_device(int threads);

// A graph's weights in a device's memory, which engines read.
struct EngineWeights {
  // Takes the graph's parameters from `weights` by name; there may be others. The graph must outlive
  // it.
  EngineWeights(std::shared_ptr<Device> device, const Graph& graph,
                const std::vector<NamedView>& weights);
  std::shared_ptr<Device> device;
  const Graph& graph;
  ModelState state;
};

// Engines of the same weights may run at a time, each in one thread, where the device has one thread.
class Engine {
 public:
  // `rows`: most rows of a batch.
  Engine(std::shared_ptr<EngineWeights> weights, i64 rows);
  // graph.prediction of the batch's valid rows, [valid, shape...]. The batch has room for
  // capacity_of(valid) rows or more.
  std::vector<double> predict(const Batch& batch);
  i64 rows() const { return capacities_.back(); }
  i64 capacity_of(i64 valid) const { return capacities_[plan_of(valid)]; }   // at most rows()
  const std::vector<i64>& capacities() const { return capacities_; }   // for which there are plans

 private:
  std::size_t plan_of(i64 valid) const;
  std::shared_ptr<EngineWeights> weights_;
  std::vector<i64> capacities_;               // a few, so that a single row costs little
  std::vector<std::unique_ptr<Plan>> plans_;  // made when first used
};

// Batches of at most 256 rows; the prediction of them all as float32, [rows, shape...].
std::vector<float> predict_all(Engine& engine, const std::vector<Input>& inputs,
                               const std::vector<BatchColumn>& columns, i64 rows);

}  // namespace cohort
