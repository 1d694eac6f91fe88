// conv 3x3 + max pool 2x2 of one image, a register of filters at a time: the four results of a pool
// cell never reach memory. Included by kernels.cpp alone.
#pragma once
#include "device/cpu/kernels/vector.h"

namespace cohort::COHORT_ISA {
namespace {

constexpr i64 lanes = native;   // wider, the nine weights of a channel would not stay in registers
typedef float Wide __attribute__((vector_size(4 * lanes), aligned(4)));
typedef i32 WideInt __attribute__((vector_size(4 * lanes), aligned(4)));
typedef u8 WideByte __attribute__((vector_size(lanes), aligned(1)));

inline void load(Wide& value, const float* from, i64 n) {
  value = Wide{};
  if (n >= lanes)
    __builtin_memcpy(&value, from, sizeof value);
  else
    for (i64 k = 0; k < n; ++k) value[k] = from[k];
}

template <i64 channels>
void conv_pool_block(const cpu::ConvPool& s, i64 block) {
  constexpr i64 taps = 9 * channels;
  const i64 left = s.filters - block, line = s.width * channels;
  Wide weight[taps];
  for (i64 t = 0; t < taps; ++t) load(weight[t], s.weight + t * s.stride + block, lanes);
  Wide bias;
  load(bias, s.bias + block, left);
  for (i64 cell = 0; cell < s.cells_high * s.cells_wide; ++cell) {
    const float* corner = s.in + cell / s.cells_wide * 2 * line +
                          cell % s.cells_wide * 2 * channels;
    Wide sum[4] = {bias, bias, bias, bias};
    for (i64 ky = 0; ky < 3; ++ky)
      for (i64 kx = 0; kx < 3 * channels; ++kx)
        for (i64 k = 0; k < 4; ++k)
          sum[k] += corner[(ky + k / 2) * line + kx + k % 2 * channels] *
                    weight[ky * 3 * channels + kx];
    Wide best = sum[0];
    WideInt from = {};
    for (i32 k = 1; k < 4; ++k) {
      const WideInt above = sum[k] > best;
      best = above ? sum[k] : best;
      from = above ? from * 0 + k : from;
    }
    float* out = s.out + cell * s.filters + block;
    u8* choice = s.choice + cell * s.filters + block;
    const WideByte bytes = __builtin_convertvector(from, WideByte);
    const auto n = static_cast<std::size_t>(left < lanes ? left : lanes);
    if (n == lanes) {   // of a known size: one instruction
      __builtin_memcpy(out, &best, sizeof best);
      __builtin_memcpy(choice, &bytes, sizeof bytes);
    } else {
      __builtin_memcpy(out, &best, n * sizeof(float));
      __builtin_memcpy(choice, &bytes, n);
    }
  }
}

template <i64 channels>
void conv_pool_back_block(const cpu::ConvPoolBack& s, i64 block) {
  constexpr i64 taps = 9 * channels;
  const i64 left = s.filters - block, line = s.width * channels;
  Wide weight[taps], bias, d;
  load(bias, s.d_bias + block, lanes);
  for (i64 t = 0; t < taps; ++t) load(weight[t], s.d_weight + t * s.stride + block, lanes);
  for (i64 cell = 0; cell < s.cells_high * s.cells_wide; ++cell) {
    const float* corner = s.in + cell / s.cells_wide * 2 * line +
                          cell % s.cells_wide * 2 * channels;
    load(d, s.d + cell * s.filters + block, left);
    const u8* choice = s.choice + cell * s.filters + block;
    WideInt from = {};
    for (i64 f = 0; f < lanes && f < left; ++f) from[f] = choice[f];
    bias += d;
    for (i32 k = 0; k < 4; ++k) {
      const Wide part = from == k ? d : d * 0;
      for (i64 ky = 0; ky < 3; ++ky)
        for (i64 kx = 0; kx < 3 * channels; ++kx)
          weight[ky * 3 * channels + kx] +=
              corner[(ky + k / 2) * line + kx + k % 2 * channels] * part;
    }
  }
  for (i64 t = 0; t < taps; ++t)
    __builtin_memcpy(s.d_weight + t * s.stride + block, &weight[t], sizeof bias);
  __builtin_memcpy(s.d_bias + block, &bias, sizeof bias);
}

void conv_pool(const cpu::ConvPool& s) {
  for (i64 block = 0; block < s.filters; block += lanes) {
    if (s.channels == 1) conv_pool_block<1>(s, block);
    if (s.channels == 2) conv_pool_block<2>(s, block);
    if (s.channels == 3) conv_pool_block<3>(s, block);
    if (s.channels == 4) conv_pool_block<4>(s, block);
  }
}

void conv_pool_back(const cpu::ConvPoolBack& s) {
  for (i64 block = 0; block < s.filters; block += lanes) {
    if (s.channels == 1) conv_pool_back_block<1>(s, block);
    if (s.channels == 2) conv_pool_back_block<2>(s, block);
    if (s.channels == 3) conv_pool_back_block<3>(s, block);
    if (s.channels == 4) conv_pool_back_block<4>(s, block);
  }
}

}  // namespace
}  // namespace cohort::COHORT_ISA
