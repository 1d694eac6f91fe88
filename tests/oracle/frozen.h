// What freezing parameters means, on any device.
#pragma once
#include <functional>
#include <memory>

#include "families.h"

namespace cohort::testing {

// Trains a family with the first half of its parameters frozen: they and their slots keep their
// bits, the others move, and the gradient's norm is that of the others alone.
void check_frozen(const Family& family, Device& device);

}  // namespace cohort::testing
