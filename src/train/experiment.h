// One YAML file is an experiment: everything but the number of ranks.
//
//   name: sentiment-cnn
//   data: {shards: data/reviews}
//   model: {inputs: {...}, layers: [...], loss: {...}}
//   train: {global_batch: 64, epochs: 10}
#pragma once
#include <string>
#include <vector>

#include "base/config.h"
#include "model/model_config.h"
#include "model/optimizer.h"

namespace cohort {

struct DataConfig {
  std::string shards;            // folder of the shard set
  std::string split = "train";
  i64 lanes = 0;                 // V; 0: min(global_batch, 64)
  i64 window = 4;                // w: block pieces shuffled together
  i64 threads = 1;               // reader threads of a rank
  i64 ahead = 3;                 // batches read ahead
  std::string stage_dir;         // local folder that shards are copied to, once a host; empty: none
  i64 stage_gib = 0;             // most that stage_dir may hold; 0: what the disk has
};

struct TrainConfig {
  i64 global_batch = 0;          // exactly one of these two is set
  i64 batch_per_rank = 0;        // resolved at start; marks the run as dependent on the rank count
  i64 epochs = 1;
  i64 max_steps = 0;             // 0: no limit
  i64 accumulate = 1;
  u64 seed = 1;
  i64 eval_every_epochs = 1;     // 0: never
  i64 early_stop_patience = 0;   // evaluations without a better value; 0: never stop early
  std::string early_stop_metric; // one of `metrics`; empty: the first
  i64 nonfinite_limit = 10;      // steps in a row that are not finite before nonfinite_action
  std::string nonfinite_action = "stop";   // stop, rollback
  double rollback_rate = 0.5;    // factor on the learning rate of each rollback
  i64 most_rollbacks = 3;        // of a run, over its attempts
  i64 step_timeout_s = 600;      // a step not done in this time ends the job; 0: never
  i64 blame_every_s = 30;        // window over which a slow rank is looked for; 0: never
  i64 compare_every_steps = 500; // replicas are compared by checksum; 0: never
  i64 log_every_steps = 50;
  i64 bucket_mib = 4;            // gradient bucket
};

// When checkpoints are written, and which are kept.
struct CheckpointConfig {
  i64 every_steps = 0;           // 0: at the end of epochs
  double every_minutes = 10;     // by rank 0's clock, besides; 0: never
  i64 keep_last = 2;
  i64 keep_best = 1;
  double keep_every_hours = 0;   // of the rest, one for every so many hours; 0: none
  i64 retries = 3;               // of a write that failed, with back-off
  std::string second;            // folder used where `runs` cannot be written
};

// Weights to begin with that another run has trained. Not a resume: step, optimizer and rows begin anew.
struct InitConfig {
  std::string from;              // run folder (its newest valid checkpoint) or checkpoint; empty: the seed
  std::vector<std::string> load = {"*"};   // patterns of parameter names to take
  std::vector<std::string> fresh;          // of those, patterns to leave to the seed (a new head)
  std::vector<std::string> freeze;         // patterns of parameters that training does not change
};

// What a rank computes on.
struct DeviceConfig {
  std::string kind = "cpu";      // cpu, cuda, reference
  i64 threads = 0;               // cpu: compute threads of a rank; 0: the cores there are per rank
  std::string isa = "auto";      // cpu: auto, baseline, avx2, avx512: the highest to use
  std::string precision = "f32"; // cuda: f32, tf32, bf16, f16
  bool graph = true;             // cuda: record a step once, replay it
  bool share_gpu = false;        // cuda: ranks may share a GPU; for tests
  std::string reduce = "f32";    // cuda: f32, bf16: gradients on the wire
};

// What is published into a serving repository while training goes on.
struct HandoffConfig {
  std::string repo;              // folder of the repository; empty: nothing
  bool on_best = true;           // after an evaluation that is the best so far
  i64 every_epochs = 0;          // besides; 0: never
  std::string metric;            // that decides on promotion; empty: what early stopping watches
  double max_worse = 0;          // than current's, still promoted
  i64 keep = 5;                  // versions; 0: all
};

struct EvalConfig {
  i64 batch = 256;               // rows of a block, whatever the number of ranks
  std::string split = "validation";
};

struct Experiment {
  std::string name;
  std::string runs = "runs";
  DataConfig data;
  ModelConfig model;
  OptimizerConfig optimizer;
  TrainConfig train;
  InitConfig init;
  CheckpointConfig checkpoint;
  DeviceConfig device;
  EvalConfig eval;
  HandoffConfig handoff;
  std::vector<std::string> metrics;   // see plan/metrics.h; empty: all that the loss allows

  // Reads a file, overrides applied; checks what spans several keys. Exit::usage.
  static Experiment load(const std::string& path, const std::vector<std::string>& overrides);
  static Experiment parse(const Document& document);
  // The resolved file, which loads back equal.
  std::string text() const;
  // The B of a job of `world` ranks. Exit::usage where there are more ranks than positions.
  i64 global_batch(i64 world) const;
};

void bind(Binder& b, DataConfig& c);
void bind(Binder& b, TrainConfig& c);
void bind(Binder& b, InitConfig& c);
void bind(Binder& b, CheckpointConfig& c);
void bind(Binder& b, DeviceConfig& c);
void bind(Binder& b, EvalConfig& c);
void bind(Binder& b, HandoffConfig& c);
void bind(Binder& b, Experiment& c);

}  // namespace cohort
