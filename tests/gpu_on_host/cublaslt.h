// A matmul as cublaslt.cpp describes it and cublaslt_matmul.cpp checks and runs it.
#pragma once
#include <cublasLt.h>

#include "numbers.h"

namespace hg {

bool number_of(cudaDataType_t type, Number* number);  // false: not one that the stand-in knows

struct Matmul {
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  std::int32_t transpose_a = CUBLAS_OP_N;
  std::int32_t transpose_b = CUBLAS_OP_N;
  std::uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* bias = nullptr;
  std::int64_t bias_stride = 0;
  std::int32_t bias_type = -1;  // the type of D
  void* aux = nullptr;          // one bit for every element of D: was it above zero
  std::int64_t aux_ld = 0;      // in bits
};

struct Layout {
  Number type = Number::f32;
  std::uint64_t rows = 0;
  std::uint64_t cols = 0;
  std::int64_t ld = 0;
  std::int32_t order = CUBLASLT_ORDER_COL;
  std::int32_t batch = 1;
  std::int64_t batch_stride = 0;

  bool row_major() const { return order == CUBLASLT_ORDER_ROW; }
  std::size_t at(std::size_t row, std::size_t col) const {
    return row_major() ? row * std::size_t(ld) + col : row + col * std::size_t(ld);
  }
  std::size_t matrix_bytes() const { return (at(rows - 1, cols - 1) + 1) * bytes_of(type); }
  std::size_t span() const {
    return std::size_t(batch - 1) * std::size_t(batch_stride) * bytes_of(type) + matrix_bytes();
  }
};

struct Preference {
  std::uint64_t max_workspace = 0;
  std::uint32_t alignment[4] = {256, 256, 256, 256};  // of A, B, C, D
  std::uint32_t reduction_schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
};

// What the opaque algorithm holds.
struct Algorithm {
  static constexpr std::uint64_t kMagic = 0x6c74616c676f2131u;
  std::uint64_t magic;
  std::uint64_t problem;
  std::uint64_t workspace;
  std::uint32_t alignment[4];
  std::uint32_t bias_alignment;
  std::uint32_t aux_alignment;
};

struct MatmulCall {
  Matmul op;
  Layout layout[4];        // A, B, C, D
  const void* operand[3];  // A, B, C
  void* d;
  float alpha;
  float beta;
  void* workspace;
  std::size_t workspace_bytes;
};

cublasStatus_t check_matmul(const Matmul& op, const Layout* const layouts[4]);
cublasStatus_t check_algorithm(const MatmulCall& call, const Algorithm& algorithm);
cublasStatus_t check_memory(const MatmulCall& call);
void run_matmul(const MatmulCall& call);

}  // namespace hg
