// Small tests of a device by the ops that training uses: right answers, and how fast they come.
#pragma once
#include <string>

#include "device/device.h"

namespace cohort {

// Writes two patterns of `bytes`, copies them within the device and reads them back.
struct MemoryTest {
  std::string wrong;              // the first byte that came back otherwise; empty: none
  double in = 0, out = 0;         // bytes/s from and to the host
};
MemoryTest test_memory(Device& device, i64 bytes);

// Forward and backward, against the reference device (float64). What differs, or nothing.
std::string test_product(Device& device);        // a dense layer
std::string test_convolution(Device& device);    // 3 x 3, of images

// FLOP/s of a dense layer that is large enough to keep the device busy for 5 ms, or of 4096 x 4096.
double product_rate(Device& device);

// Waits until what the device was given is done: Error(Exit::lost) where that takes longer.
// `slot` is one of make_slots().
struct Limit {
  double seconds = 0;
  std::string what;               // begins the message
  std::function<void()> meanwhile;   // called now and then; may throw
};
void finish_within(Device& device, const Slot& slot, const Limit& limit);

}  // namespace cohort
