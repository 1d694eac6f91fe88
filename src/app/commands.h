// The verbs that need the ranks: train, eval, predict; and shard.
#pragma once
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "train/run_folder.h"

namespace cohort {

struct ScoreOptions {
  std::string run;                      // run folder
  std::string split = "test", checkpoint = "best";
  std::vector<std::string> overrides;
  bool json = false;
};
// Exact metrics of a split. JSON on stdout with --json.
int run_eval(World& world, const ScoreOptions& options);
// Writes <run>/predictions/<split>.jsonl: row id and prediction, in the order of the shard set.
int run_predict(World& world, const ScoreOptions& options);

struct ShardOptions {
  std::string recipe, demo;             // one of them
  std::vector<std::string> overrides;
  u64 seed = 1;
  i64 memory_mib = 1024;
};
int run_shard(const ShardOptions& options);

}  // namespace cohort
