// The part of cuBLASLt that the product uses. Attributes, types, layouts and epilogues that are not
// listed here are refused; a matmul runs in float over operands unpacked to float.
#include "cublaslt.h"

#include <cublasLt.h>

#include <algorithm>
#include <cstring>

using hg::Algorithm;
using hg::Layout;
using hg::Matmul;
using hg::Preference;

namespace {

constexpr std::size_t kWorkspace = 64 * 1024;

// Takes an attribute whose size must be exact.
template <class T>
cublasStatus_t take(T& field, const void* from, std::size_t bytes) {
  if (!from || bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&field, from, sizeof(T));
  return CUBLAS_STATUS_SUCCESS;
}

// Takes an attribute of which one value is known.
template <class T>
cublasStatus_t take_only(T known, const void* from, std::size_t bytes) {
  T value;
  if (const cublasStatus_t status = take(value, from, bytes)) return status;
  return value == known ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

Matmul* matmul_of(cublasLtMatmulDesc_t desc) { return reinterpret_cast<Matmul*>(desc); }
Layout* layout_of(cublasLtMatrixLayout_t layout) { return reinterpret_cast<Layout*>(layout); }
Preference* preference_of(cublasLtMatmulPreference_t preference) {
  return reinterpret_cast<Preference*>(preference);
}

std::uint32_t alignment_of(const void* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  return address ? std::uint32_t(std::min<std::uintptr_t>(address & -address, 256)) : 256;
}

// A hash of all that an algorithm is chosen for: it serves no other problem.
std::uint64_t problem_hash(const Matmul& op, const Layout* const layouts[4]) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  auto mix = [&](std::uint64_t value) { hash = (hash ^ value) * 0x100000001b3u; };
  mix(op.compute);
  mix(std::uint64_t(op.transpose_a) << 8 | std::uint64_t(op.transpose_b));
  mix(op.epilogue);
  mix(std::uint64_t(op.aux_ld));
  for (int i = 0; i < 4; ++i) {
    const Layout& l = *layouts[i];
    for (std::uint64_t value :
         {std::uint64_t(l.type), l.rows, l.cols, std::uint64_t(l.ld), std::uint64_t(l.order),
          std::uint64_t(l.batch), std::uint64_t(l.batch_stride)}) {
      mix(value);
    }
  }
  return hash;
}

}  // namespace

extern "C" {

size_t cublasLtGetVersion() { return CUBLAS_VERSION; }
size_t cublasLtGetCudartVersion() { return CUDART_VERSION; }

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    default:
      return "CUBLAS_STATUS_(other)";
  }
}
const char* cublasLtGetStatusString(cublasStatus_t status) { return cublasLtGetStatusName(status); }

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = reinterpret_cast<cublasLtHandle_t>(new int(0x4c74));
  hg::count("cuBLASLt handle", 1);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  if (handle) hg::count("cuBLASLt handle", -1);
  delete reinterpret_cast<int*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  const bool known = compute == CUBLAS_COMPUTE_32F || compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  if (!known || scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  auto* op = new Matmul;
  op->compute = compute;
  *desc = reinterpret_cast<cublasLtMatmulDesc_t>(op);
  hg::count("cuBLASLt matmul descriptor", 1);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  if (desc) hg::count("cuBLASLt matmul descriptor", -1);
  delete matmul_of(desc);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t name, const void* from,
                                              size_t bytes) {
  if (!desc) return CUBLAS_STATUS_INVALID_VALUE;
  Matmul& op = *matmul_of(desc);
  switch (name) {
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
      return take_only<std::int32_t>(CUBLASLT_POINTER_MODE_HOST, from, bytes);
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE:
      return take_only<std::int32_t>(CUDA_R_32F, from, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSC:
      return take_only<std::int32_t>(CUBLAS_OP_N, from, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return take(op.transpose_a, from, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return take(op.transpose_b, from, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return take(op.epilogue, from, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return take(op.bias, from, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE:
      return take(op.bias_stride, from, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return take(op.bias_type, from, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      return take(op.aux, from, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      return take(op.aux_ld, from, bytes);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type,
                                          uint64_t rows, uint64_t cols, int64_t ld) {
  Layout l;
  if (!hg::number_of(type, &l.type)) return CUBLAS_STATUS_NOT_SUPPORTED;
  l.rows = rows;
  l.cols = cols;
  l.ld = ld;
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(new Layout(l));
  hg::count("cuBLASLt matrix layout", 1);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  if (layout) hg::count("cuBLASLt matrix layout", -1);
  delete layout_of(layout);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t name,
                                                const void* from, size_t bytes) {
  if (!layout) return CUBLAS_STATUS_INVALID_VALUE;
  Layout& l = *layout_of(layout);
  switch (name) {
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
      return take(l.order, from, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
      return take(l.rows, from, bytes);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
      return take(l.cols, from, bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD:
      return take(l.ld, from, bytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return take(l.batch, from, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return take(l.batch_stride, from, bytes);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
  hg::count("cuBLASLt preference", 1);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  if (preference) hg::count("cuBLASLt preference", -1);
  delete preference_of(preference);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t name,
                                                    const void* from, size_t bytes) {
  if (!preference) return CUBLAS_STATUS_INVALID_VALUE;
  Preference& p = *preference_of(preference);
  switch (name) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return take(p.max_workspace, from, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return take(p.alignment[0], from, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return take(p.alignment[1], from, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return take(p.alignment[2], from, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return take(p.alignment[3], from, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      // Any scheme is as good here; the product narrows it for sums in one order.
      return take(p.reduction_schemes, from, bytes);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* found) {
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (!desc || !a || !b || !c || !d || !preference || requested < 1 || !found) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  *found = 0;
  const Layout* const layouts[4] = {layout_of(a), layout_of(b), layout_of(c), layout_of(d)};
  const Matmul& op = *matmul_of(desc);
  if (const cublasStatus_t status = hg::check_matmul(op, layouts)) return status;
  const Preference& p = *preference_of(preference);
  Algorithm algorithm{};
  algorithm.magic = Algorithm::kMagic;
  algorithm.problem = problem_hash(op, layouts);
  algorithm.workspace = p.max_workspace >= kWorkspace ? kWorkspace : 0;
  for (int i = 0; i < 4; ++i) algorithm.alignment[i] = p.alignment[i];
  algorithm.bias_alignment = alignment_of(op.bias);
  algorithm.aux_alignment = alignment_of(op.aux);
  cublasLtMatmulHeuristicResult_t& result = results[0];
  result = {};
  static_assert(sizeof algorithm <= sizeof result.algo);
  std::memcpy(&result.algo, &algorithm, sizeof algorithm);
  result.workspaceSize = algorithm.workspace;
  result.state = CUBLAS_STATUS_SUCCESS;
  result.wavesCount = 1.0f;
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (!desc || !a_layout || !b_layout || !c_layout || !d_layout || !alpha || !beta) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  hg::MatmulCall call{
      *matmul_of(desc),
      {*layout_of(a_layout), *layout_of(b_layout), *layout_of(c_layout), *layout_of(d_layout)},
      {a, b, c},
      d,
      *static_cast<const float*>(alpha),
      *static_cast<const float*>(beta),
      workspace,
      workspace_bytes};
  const Layout* const layouts[4] = {&call.layout[0], &call.layout[1], &call.layout[2],
                                    &call.layout[3]};
  if (const cublasStatus_t status = hg::check_matmul(call.op, layouts)) return status;
  if (algo) {
    Algorithm chosen;
    std::memcpy(&chosen, algo, sizeof chosen);
    if (chosen.magic != Algorithm::kMagic) return CUBLAS_STATUS_INVALID_VALUE;
    if (chosen.problem != problem_hash(call.op, layouts)) return CUBLAS_STATUS_INVALID_VALUE;
    if (const cublasStatus_t status = hg::check_algorithm(call, chosen)) return status;
  }
  if (const cublasStatus_t status = hg::check_memory(call)) return status;
  const cudaError_t error =
      hg::enqueue(stream, "cublasLtMatmul", [call = std::move(call)] { hg::run_matmul(call); });
  return error ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
}
}
