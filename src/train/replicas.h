// Whether all ranks hold the same weights and optimizer slots, by checksum. They are computed alike on
// every rank and sent by none, so a difference is a fault of memory, a device or this program.
#pragma once
#include <vector>

#include "comm/communicator.h"
#include "device/device.h"
#include "plan/state.h"

namespace cohort {

class ReplicaCheck {
 public:
  // Compares `most_bytes` at a time at most: the next part of the tensors in turn.
  ReplicaCheck(Device& device, std::vector<NamedView> tensors, i64 most_bytes = i64{64} << 20);
  // At the edge of a step. Where parts differ, Error(Exit::lost) on every rank: which rank, host and
  // tensor, and since when checkpoints are in doubt. Collective.
  void compare(Communicator& ranks, i64 step);
  i64 done() const { return done_; }
  double seconds() const { return seconds_; }   // spent in all comparisons

 private:
  u64 hash_part(i64 begin, i64 end);
  [[noreturn]] void blame(Communicator& ranks, i64 step);
  Device& device_;
  std::vector<NamedView> tensors_;
  std::vector<char> buffer_;
  i64 total_ = 0, most_ = 0, at_ = 0;
  i64 round_ = 0, known_equal_ = 0;   // steps: this round's first, and that all were equal at
  i64 done_ = 0;
  double seconds_ = 0;
};

}  // namespace cohort
