// Plain: compiled for graphics processors too.
#pragma once
#include "base/types.h"

namespace cohort {

// How long a device was at work, in its memory: it starts and stops the clock itself, in the order
// of what it is given.
struct WorkClock {
  u64 since = 0;              // of the stretch that runs, by the device's clock
  u64 nanoseconds = 0;        // of all stretches that have ended
};

}  // namespace cohort
