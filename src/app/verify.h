// cohort verify: reads a shard set, a checkpoint, a run's checkpoints or a bundle whole and checks every
// checksum, and that a bundle answers its golden rows. Exit codes: 0 whole, 3 damaged shard set, 4
// damaged checkpoint or bundle.
#pragma once
#include <string>

namespace cohort {

struct VerifyOptions {
  std::string path;
  bool json = false;
};
int run_verify(const VerifyOptions& options);

}  // namespace cohort
