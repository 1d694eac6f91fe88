// What training, evaluation and prediction share: experiment, data, graph, device, ranks.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "data/shard_set.h"
#include "data/stage.h"
#include "device/device.h"
#include "model/graph.h"
#include "plan/metrics.h"
#include "plan/plan.h"
#include "train/experiment.h"

namespace cohort {

// How the ranks of this experiment are watched.
WatchConfig watch_config(const TrainConfig& config);

struct Session {
  Experiment experiment;
  Staged staged;                     // where the shards lie, if data.stage_dir is set
  std::shared_ptr<ShardSet> shards;
  std::unique_ptr<Graph> graph;      // fused; plans keep a reference
  std::unique_ptr<Device> device;
  World* world = nullptr;
  int gpu = -1;                      // CudaOptions::index of this rank; -1: another kind of device
  Communicator& ranks() const { return world->communicator(); }
};

// Opens the shard set, builds and fuses the graph, makes the device with the lowest instruction set
// of all ranks, and makes the ranks agree on all of it. Collective.
Session open_session(World& world, Experiment experiment);

// This rank's part of a training step: its plan, and the rows that it reads.
PlanConfig training_plan(const Session& session);
LoaderConfig training_rows(const Session& session);
// Sums over ranks for this session's device; null with one rank. `memory` is what will be summed.
// Collective.
std::unique_ptr<Reducer> make_reducer(const Session& session, const std::vector<View>& memory);
// A line for every rank: host, device, memory planned and free. Collective.
std::string placement(const Session& session, const Plan::Memory& planned);

// The CPU with this rank's share of the cores and the instruction set that all have. Collective.
std::unique_ptr<Device> make_session_cpu(World& world, const DeviceConfig& config);

MetricSpec metric_spec(const Session& session);

}  // namespace cohort
