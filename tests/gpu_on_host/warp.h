// Where the lanes of a warp meet for an operation.
#pragma once
#include "exec.h"

namespace hg {
// One for each mask in use. Two sets of values in turn: a fast lane that is already at the next
// operation does not overwrite what a slow one still reads.
class Rendezvous {
 public:
  void begin(unsigned mask) {
    mask_ = mask;
    arrived_ = 0;
    generation_ = 0;
  }
  unsigned mask() const { return mask_; }
  const unsigned long long* arrive(unsigned lane, unsigned long long value) {
    unsigned long long* values = values_[generation_ % 2];
    values[lane] = value;
    arrived_ |= 1u << lane;
    return values;
  }
  // True for the last lane, which begins the next generation.
  bool complete() {
    if (arrived_ != mask_) return false;
    arrived_ = 0;
    ++generation_;
    return true;
  }

 private:
  unsigned mask_ = 0;
  unsigned arrived_ = 0;
  unsigned generation_ = 0;
  unsigned long long values_[2][32];
};

class Warp {
 public:
  void reset() { used_ = 0; }
  Rendezvous& of(unsigned mask) {
    for (int i = 0; i < used_; ++i) {
      if (meetings_[i].mask() == mask) return meetings_[i];
    }
    if (used_ == kMasks) die("more than %d different warp masks in one block", kMasks);
    meetings_[used_].begin(mask);
    return meetings_[used_++];
  }

 private:
  static constexpr int kMasks = 16;
  Rendezvous meetings_[kMasks];
  int used_ = 0;
};
}  // namespace hg
