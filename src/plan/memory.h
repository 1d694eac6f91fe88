// Where a plan's values live: one activation arena, packed by lifetime.
#pragma once
#include <vector>

#include "device/device.h"

namespace cohort {

// The order of a plan: forward of node 0..n-1 at times 0..n-1, backward of node i at 2n-1-i.
// Values and their gradients as offsets (bytes) in the arena; -1 where there is none.
struct MemoryMap {
  std::vector<i64> value, gradient;   // per graph value
  std::vector<i64> saved;             // per node
  std::vector<char> needs_gradient;   // per value
  std::vector<char> runs_backward;    // per node
  i64 bytes = 0;
};

struct MemoryInputs {
  const Graph* graph = nullptr;
  i64 rows = 0;
  i64 real_bytes = 4;
  bool train = false;
  std::vector<i64> saved_bytes;       // per node
};
MemoryMap place_memory(const MemoryInputs& inputs);

}  // namespace cohort
