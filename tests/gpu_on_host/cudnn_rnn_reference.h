// A recurrent layer by plain loops in double, that the tests of cuDNN's stand-in compare with.
#pragma once
#include <algorithm>
#include <cmath>

#include "cudnn_test.h"

namespace hg::library_test {

inline constexpr int kSteps = 4, kInput = 3, kHidden = 5;

struct Shape {
  cudnnRNNMode_t mode = CUDNN_LSTM;
  cudnnRNNBiasMode_t bias = CUDNN_RNN_DOUBLE_BIAS;
  Number type = Number::f32;
  bool sequence_major = true;
  std::vector<int> lengths = {4, 2, 3};
  cudnnRNNAlgo_t algorithm = CUDNN_RNN_ALGO_STANDARD;
  cudnnMathType_t math = CUDNN_FMA_MATH;

  int batch() const { return int(lengths.size()); }
  int gates() const { return mode == CUDNN_LSTM ? 4 : mode == CUDNN_GRU ? 3 : 1; }
};

using Doubles = std::vector<double>;

// All that a recurrent layer is a function of, and what it gives: plain loops, in double.
struct Values {
  Doubles x, hx, cx;     // time x batch x input whatever the layout; batch x hidden
  Doubles w, r, bw, br;  // gates x hidden x (input or hidden); gates x hidden, zero where absent
};

struct Outputs {
  Doubles y, hy, cy;
};

inline double sigmoid(double v) { return 1 / (1 + std::exp(-v)); }

inline Outputs reference(const Shape& s, const Values& v) {
  Outputs out{Doubles(kSteps * s.lengths.size() * kHidden), v.hx, v.cx};
  for (int b = 0; b < s.batch(); ++b) {
    for (int t = 0; t < s.lengths[std::size_t(b)]; ++t) {
      const Doubles h(out.hy.begin() + b * kHidden, out.hy.begin() + (b + 1) * kHidden);
      for (int k = 0; k < kHidden; ++k) {
        auto in = [&](int g) {
          double sum = v.bw[std::size_t(g * kHidden + k)];
          for (int i = 0; i < kInput; ++i) {
            sum += v.w[std::size_t((g * kHidden + k) * kInput + i)] *
                   v.x[std::size_t((t * s.batch() + b) * kInput + i)];
          }
          return sum;
        };
        auto rec = [&](int g) {
          double sum = v.br[std::size_t(g * kHidden + k)];
          for (int i = 0; i < kHidden; ++i) {
            sum += v.r[std::size_t((g * kHidden + k) * kHidden + i)] * h[std::size_t(i)];
          }
          return sum;
        };
        double& c = out.cy[std::size_t(b * kHidden + k)];
        double next = 0;
        if (s.mode == CUDNN_LSTM) {
          c = sigmoid(in(1) + rec(1)) * c + sigmoid(in(0) + rec(0)) * std::tanh(in(2) + rec(2));
          next = sigmoid(in(3) + rec(3)) * std::tanh(c);
        } else if (s.mode == CUDNN_GRU) {
          const double z = sigmoid(in(1) + rec(1));
          const double n = std::tanh(in(2) + sigmoid(in(0) + rec(0)) * rec(2));
          next = (1 - z) * n + z * h[std::size_t(k)];
        } else {
          const double sum = in(0) + rec(0);
          next = s.mode == CUDNN_RNN_TANH ? std::tanh(sum) : std::max(sum, 0.0);
        }
        out.hy[std::size_t(b * kHidden + k)] = next;
        out.y[std::size_t((t * s.batch() + b) * kHidden + k)] = next;
      }
    }
  }
  return out;
}

}  // namespace hg::library_test
