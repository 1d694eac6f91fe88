// Fused convolutions with their own forward and backward passes; conv.cpp chooses among them.
#pragma once
#include "device/cpu/cpu_impl.h"

namespace cohort::cpu {

Needs text_needs(const Call& c, const Conv1d& op, i64 threads);
void text_forward(Context& x, const Call& c, const Conv1d& op);
void text_backward(Context& x, const Call& c, const Conv1d& op);

// 3x3, stride 1, no padding, max pool of 2, at most four input channels.
bool is_conv_pool(const Call& c, const Conv2d& op);
Needs conv_pool_needs(const Call& c, const Conv2d& op, i64 threads);
void conv_pool_forward(Context& x, const Call& c, const Conv2d& op);
void conv_pool_backward(Context& x, const Call& c, const Conv2d& op);

}  // namespace cohort::cpu
