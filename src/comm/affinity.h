// How many threads a rank should have: its share of the cores that its launcher left it.
#pragma once
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace cohort {

struct RankCores {
  std::string host;
  std::vector<int> cores;  // of its affinity mask
};

// Threads of each rank, at least 1. Ranks of a host with masks of their own take those; ranks that
// share cores share them evenly. The same for all ranks: the least.
int fair_threads(const std::vector<RankCores>& ranks);

// Collective: the above for this job.
int fair_threads(Communicator& ranks);

// What to do where `threads` is more than the cores of this rank, or where the launcher left it one
// core of a host with more to spare: a sentence for a warning, else empty.
std::string crowded(int threads, int local_size);

}  // namespace cohort
