// Private to onnx*.cpp: weights as float32, made a piece at a time from where they lie.
#pragma once
#include "export/onnx.h"

namespace cohort {

// The elements of `view` in order, and zeros behind them. `view` is copied, its numbers are not.
OnnxBytes floats_of(const View& view, i64 zeros = 0);
// `count` elements: the i-th is that at from(i) of `view`; -1: zero.
OnnxBytes floats_of(const View& view, i64 count, std::function<i64(i64)> from);

}  // namespace cohort
