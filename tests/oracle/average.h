// What the average of the weights (optimizer.ema) means, on any device.
#pragma once
#include "families.h"

namespace cohort::testing {

// Trains a family with an average and without, its first parameter frozen: the weights are the same
// bits; the average is its formula in float64 of the weights after each step, up to `near`; a step
// that is not finite leaves it; inference on averaged() gives the bits of a model whose weights are
// the averages.
void check_average(const Family& family, Device& device, double near);

}  // namespace cohort::testing
