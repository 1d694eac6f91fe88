// What a run or a checkpoint has learned, ready to evaluate.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "train/checkpoint.h"
#include "train/session.h"

namespace cohort {

// `which` is best (by the early-stopping metric), last, or a step, of a run folder. Exit::usage,
// Exit::storage.
LoadedCheckpoint find_checkpoint(Files& files, const std::string& run, const std::string& which);

struct Trained {
  Session session;
  std::unique_ptr<ModelState> state;   // weights alone, on the session's device
  i64 step = 0;
};
// Collective.
Trained load_trained(World& world, Experiment experiment, const LoadedCheckpoint& checkpoint);
// Exit::usage, naming the splits there are, where this one has no rows.
void check_split(const ShardSet& shards, const std::string& split);

}  // namespace cohort
