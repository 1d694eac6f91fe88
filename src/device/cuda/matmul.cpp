// cuBLASLt counts matrices by columns: a row-major C = A B is its C^T = B^T A^T, so that its first
// operand is our B.
#include "device/cuda/matmul.h"

#include <algorithm>

namespace cohort::cuda {
namespace {

cudaDataType_t number(DType type) {
  if (type == DType::bf16) return CUDA_R_16BF;
  return type == DType::f16 ? CUDA_R_16F : CUDA_R_32F;
}

template <class T>
void set(cublasLtMatmulDesc_t descriptor, cublasLtMatmulDescAttributes_t name, const T& value) {
  check(cublasLtMatmulDescSetAttribute(descriptor, name, &value, sizeof value),
        "cublasLtMatmulDescSetAttribute");
}

cublasLtEpilogue_t epilogue_of(const Product& p) {
  if (p.bias) return p.relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
  return p.relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT;
}

MatmulDescriptor descriptor_of(const Context& x, const Product& p) {
  const bool tf32 = x.precision == Precision::tf32 && p.in == DType::f32;
  cublasLtMatmulDesc_t handle = nullptr;
  check(cublasLtMatmulDescCreate(&handle, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
                                 CUDA_R_32F),
        "cublasLtMatmulDescCreate");
  MatmulDescriptor descriptor(handle);
  set(handle, CUBLASLT_MATMUL_DESC_TRANSA, p.b_t ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(handle, CUBLASLT_MATMUL_DESC_TRANSB, p.a_t ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(handle, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(p));
  if (!p.bias) return descriptor;
  set(handle, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
  set(handle, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, number(p.out));
  return descriptor;
}

// A row-major matrix of `rows` rows, `stride` values apart.
MatrixLayout layout_of(DType type, i64 rows, i64 columns, i64 stride) {
  cublasLtMatrixLayout_t handle = nullptr;
  check(cublasLtMatrixLayoutCreate(&handle, number(type), static_cast<u64>(columns),
                                   static_cast<u64>(rows), stride),
        "cublasLtMatrixLayoutCreate");
  return MatrixLayout(handle);
}

u32 alignment_of(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  return static_cast<u32>(std::min<std::uintptr_t>(address & (~address + 1), 256));
}

using PreferenceHandle = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

template <class T>
void prefer(const PreferenceHandle& preference, cublasLtMatmulPreferenceAttributes_t name,
            const T& value) {
  check(cublasLtMatmulPreferenceSetAttribute(preference.get(), name, &value, sizeof value),
        "cublasLtMatmulPreferenceSetAttribute");
}

PreferenceHandle preference_of(const Context& x, const Product& p) {
  cublasLtMatmulPreference_t handle = nullptr;
  check(cublasLtMatmulPreferenceCreate(&handle), "cublasLtMatmulPreferenceCreate");
  PreferenceHandle preference(handle);
  prefer(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<u64>(x.workspace_bytes));
  // Partial sums are added in one order, in float32.
  const u32 reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  prefer(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reduction);
  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(p.b));
  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(p.a));
  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(p.c));
  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(p.c));
  return preference;
}

}  // namespace

Matmul::Matmul(Context& x, const Product& product)
    : x_(&x),
      p_(product),
      descriptor_(descriptor_of(x, product)),
      a_(product.a_t ? layout_of(product.in, product.k, product.m, product.lda)
                     : layout_of(product.in, product.m, product.k, product.lda)),
      b_(product.b_t ? layout_of(product.in, product.n, product.k, product.ldb)
                     : layout_of(product.in, product.k, product.n, product.ldb)),
      c_(layout_of(product.out, product.m, product.n, product.ldc)) {
  cublasStatus_t status = choose(x);
  if (status != CUBLAS_STATUS_SUCCESS && (p_.bias || p_.relu)) {
    finishes_ = false;
    p_.bias = nullptr;
    p_.relu = false;
    descriptor_ = descriptor_of(x, p_);
    status = choose(x);
  }
  if (status != CUBLAS_STATUS_SUCCESS)
    fail(Exit::usage, "cuBLASLt has no algorithm for a product [{}, {}] x [{}, {}] of {} into {}: "
         "{}; use another precision",
         p_.m, p_.k, p_.k, p_.n, name_of(p_.in), name_of(p_.out), cublasLtGetStatusString(status));
}

cublasStatus_t Matmul::choose(Context& x) {
  const PreferenceHandle preference = preference_of(x, p_);
  cublasLtMatmulHeuristicResult_t result{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      x.blas, descriptor_.get(), b_.get(), a_.get(), c_.get(), c_.get(), preference.get(), 1,
      &result, &found);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  if (found == 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  algorithm_ = result.algo;
  workspace_ = result.workspaceSize;
  return result.state;
}

void Matmul::run() const {
  if (!x_) return;
  const float alpha = 1;
  check(cublasLtMatmul(x_->blas, descriptor_.get(), &alpha, p_.b, b_.get(), p_.a, a_.get(),
                       &p_.beta, p_.c, c_.get(), p_.c, c_.get(), &algorithm_, x_->workspace,
                       workspace_, x_->stream),
        "cublasLtMatmul");
}

}  // namespace cohort::cuda
