// Shapes at which the CUDA device's own kernels take other paths than in op_cases(): packs of
// elements, several blocks, several stretches of ids.
#pragma once
#include <vector>

#include "op_case.h"

namespace cohort::test {

std::vector<OpCase> kernel_shapes();

}  // namespace cohort::test
