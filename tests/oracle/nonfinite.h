// Where a step's first value that is not finite is looked for, on any device.
#pragma once
#include "families.h"

namespace cohort::testing {

// A spoiled parameter, row and gradient are found; sound steps with NaN in their padding are not
// blamed; and the search changes nothing.
void check_nonfinite(const Family& family, Device& device);

}  // namespace cohort::testing
