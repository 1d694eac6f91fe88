// Kernels compiled once per instruction set (COHORT_ISA: baseline, avx2, avx512) and chosen at run
// time. They use plain pointers and loops only, so that no shared template can carry wide
// instructions into code that runs on a narrow machine. Arrays of different arguments never alias
// unless said.
#pragma once
#include "base/types.h"

namespace cohort::cpu {

struct GateStep {             // one row of one LSTM step; arrays of `units`, gates i, f, g, o
  i64 units;                  // a multiple of 16
  float* gates;               // in: sums; out: activated
  const float* cell_before;   // null: zeros
  float* cell;
  float* state;
};
struct GateStepBack {
  i64 units;
  const float* gates;
  const float* cell_before;   // null: zeros
  const float* cell;
  const float* d_state;
  float* d_cell;              // in: of this step; out: of the step before
  float* d_gates;             // out: before activation
};
struct GruStep {              // one row of one GRU step; arrays of `units`
  i64 units;                  // a multiple of 16
  float* gates;               // in: sums r, z, W_in x + b_in, W_hn h + b_hn; out: r, z, n and the last
  const float* state_before;  // null: zeros
  float* state;
};
struct GruStepBack {
  i64 units;
  const float* gates;
  const float* state_before;  // null: zeros
  float* d_state;             // in: of the state; out: what reaches the state before directly
  float* d_gates;             // out: of the four sums
};
// C[m, n] = A[m, k] B, + bias[n] (null: none), or + C where `add`. n is a multiple of 16; B is packed
// in panels of 64 columns (the last may be narrower), each of them row-major by itself.
constexpr i64 packed_panel = 64;
struct PackedGemm {
  i64 m, n, k;
  const float* a;
  i64 lda;
  const float* b;
  const float* bias;
  bool add;
  float* c;
  i64 ldc;
};
struct AdamRule {
  float rate, beta1, beta2, epsilon, inverse_root_correction2, scale, decay, shrink;
};
// One image [height, width, channels] (channels 1 to 4) under 3x3 windows, each 2x2 of results
// pooled. weight and its gradient: [9 * channels, stride], stride a multiple of 16 >= filters.
struct ConvPool {
  i64 cells_high, cells_wide, width, channels, filters, stride;
  const float* in;
  const float* weight;
  const float* bias;    // [filters]
  float* out;           // [cells, filters]: greatest of the four, bias added
  u8* choice;           // which of the four, row by row; the first of equals
};
struct ConvPoolBack {
  i64 cells_high, cells_wide, width, channels, filters, stride;
  const float* in;
  const float* d;       // [cells, filters]
  const u8* choice;
  float* d_weight;      // added to, as
  float* d_bias;        // [stride]
};

struct KernelTable {
  void (*add_bias)(float* x, const float* bias, i64 rows, i64 width);
  void (*relu)(float* x, i64 n);
  void (*tanh)(float* x, i64 n);
  void (*sigmoid)(float* x, i64 n);
  void (*relu_back)(float* d, const float* dy, const float* y, i64 n);      // d = dy * slope(y)
  void (*tanh_back)(float* d, const float* dy, const float* y, i64 n);
  void (*sigmoid_back)(float* d, const float* dy, const float* y, i64 n);
  void (*add)(float* to, const float* from, i64 n);
  void (*axpy)(float* to, float a, const float* x, i64 n);
  double (*sum_squares)(const float* x, i64 n);
  // Per column the greatest of `rows` >= 1 rows and the first row that holds it.
  void (*max_rows)(const float* x, i64 rows, i64 width, float* best, i32* row);
  void (*conv_pool)(const ConvPool& image);
  void (*conv_pool_back)(const ConvPoolBack& image);
  void (*gemm)(const PackedGemm& product);
  void (*lstm)(const GateStep& step);
  void (*lstm_back)(const GateStepBack& step);
  void (*gru)(const GruStep& step);
  void (*gru_back)(const GruStepBack& step);
  // m, v: first and second moments; p *= shrink (decoupled decay), g += decay * p before.
  void (*adam)(float* p, const float* g, float* m, float* v, i64 n, const AdamRule& rule);
};

}  // namespace cohort::cpu

namespace cohort::baseline { const cpu::KernelTable& table(); }
namespace cohort::avx2 { const cpu::KernelTable& table(); }
namespace cohort::avx512 { const cpu::KernelTable& table(); }
