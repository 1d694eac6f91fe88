// Matrix products by cuBLASLt. The algorithm is chosen once, when a product is made, and is the
// same ever after; sums are taken in one order.
#pragma once
#include "device/cuda/memory.h"

namespace cohort::cuda {

// Row-major C[m, n] = epilogue(op(A) op(B) + beta C); *_t: the operand is stored transposed. A and
// B are of type `in`, C of `out`: float32 or as `in`; sums are float32.
struct Product {
  bool a_t = false, b_t = false;
  i64 m = 0, n = 0, k = 0;
  const void* a = nullptr;
  i64 lda = 0;
  const void* b = nullptr;
  i64 ldb = 0;
  void* c = nullptr;
  i64 ldc = 0;
  float beta = 0;
  DType in = DType::f32, out = DType::f32;
  const void* bias = nullptr;   // [n] of type `out`, added to every row; null: none
  bool relu = false;            // after it
};

using MatmulDescriptor = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using MatrixLayout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;

class Matmul {
 public:
  Matmul() = default;           // nothing to do
  Matmul(Context& x, const Product& product);
  void run() const;
  // Whether it adds the bias and takes the ReLU; else they are left to the caller.
  bool finishes() const { return finishes_; }

 private:
  cublasStatus_t choose(Context& x);

  const Context* x_ = nullptr;
  Product p_;
  MatmulDescriptor descriptor_;
  MatrixLayout a_, b_, c_;
  cublasLtMatmulAlgo_t algorithm_{};
  std::size_t workspace_ = 0;
  bool finishes_ = true;
};

}  // namespace cohort::cuda
