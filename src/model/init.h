// Initial weights: a pure function of (seed, parameter name), the same on every rank and device.
#pragma once
#include <vector>

#include "model/graph.h"

namespace cohort {

// Row-major values of one parameter. uniform_fan_in: uniform in +-1/sqrt(fan), fan = init_scale as
// build_graph() set it (PyTorch's default for dense, convolution and recurrent layers, biases
// included). normal: N(0, 1) * init_scale. xavier: uniform in +-sqrt(6 / (fan_in + fan_out)) of a
// [out, ..., in] array (Glorot & Bengio 2010). lstm_bias: zeros but 1 for the forget gate.
std::vector<float> initial_values(const Param& param, u64 seed);

}  // namespace cohort
