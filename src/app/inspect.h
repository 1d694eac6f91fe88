// cohort inspect: what a shard set, an experiment, a checkpoint, a run or a bundle holds.
#pragma once
#include <string>
#include <vector>

#include "store/files.h"

namespace cohort {

enum class PathKind { shard_set, config, checkpoint, run, bundle };
// Exit::usage where the path is none of them.
PathKind kind_of_path(Files& files, const std::string& path);

struct InspectOptions {
  std::string path;
  std::vector<std::string> overrides;   // of a config
  bool json = false;
};
// Prints to stdout; returns the exit code.
int run_inspect(const InspectOptions& options);

}  // namespace cohort
