// cohort verify: reads a shard set, a checkpoint or a run's checkpoints whole and checks every
// checksum. Exit codes: 0 whole, 3 damaged shard set, 4 damaged checkpoint.
#pragma once
#include <string>

namespace cohort {

struct VerifyOptions {
  std::string path;
  bool json = false;
};
int run_verify(const VerifyOptions& options);

}  // namespace cohort
