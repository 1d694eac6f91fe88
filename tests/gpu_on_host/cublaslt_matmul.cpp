// What cuBLASLt's documentation asks of a matmul, and the matmul itself.
#include <algorithm>
#include <vector>

#include "cublaslt.h"

namespace hg {
namespace {

constexpr auto kValid = CUBLAS_STATUS_SUCCESS;
constexpr auto kInvalid = CUBLAS_STATUS_INVALID_VALUE;
constexpr auto kUnknown = CUBLAS_STATUS_NOT_SUPPORTED;

struct Epilogue {
  bool add_bias;    // D's rows
  bool relu;        // after the bias
  bool write_mask;  // of the ReLU, into aux
  bool read_mask;   // DRELU
  bool sum_d;       // bias gradient: sums of D's rows
  bool sum_a;       // bias gradient: sums of op(A)'s rows
  bool sum_b;       // bias gradient: sums of op(B)'s columns

  bool uses_bias() const { return add_bias || sum_d || sum_a || sum_b; }
  bool uses_aux() const { return write_mask || read_mask; }
  bool forward_only() const { return !(uses_aux() || sum_d || sum_a || sum_b); }
};

bool epilogue_of(std::uint32_t value, Epilogue* e) {
  *e = {};
  switch (value) {
    case CUBLASLT_EPILOGUE_DEFAULT:
      return true;
    case CUBLASLT_EPILOGUE_BIAS:
      e->add_bias = true;
      return true;
    case CUBLASLT_EPILOGUE_RELU:
      e->relu = true;
      return true;
    case CUBLASLT_EPILOGUE_RELU_BIAS:
      e->relu = e->add_bias = true;
      return true;
    case CUBLASLT_EPILOGUE_RELU_AUX:
      e->relu = e->write_mask = true;
      return true;
    case CUBLASLT_EPILOGUE_RELU_AUX_BIAS:
      e->relu = e->write_mask = e->add_bias = true;
      return true;
    case CUBLASLT_EPILOGUE_DRELU:
      e->read_mask = true;
      return true;
    case CUBLASLT_EPILOGUE_DRELU_BGRAD:
      e->read_mask = e->sum_d = true;
      return true;
    case CUBLASLT_EPILOGUE_BGRADA:
      e->sum_a = true;
      return true;
    case CUBLASLT_EPILOGUE_BGRADB:
      e->sum_b = true;
      return true;
    default:
      return false;
  }
}

cublasStatus_t check_layout(const Layout& l) {
  if (l.order != CUBLASLT_ORDER_COL && l.order != CUBLASLT_ORDER_ROW) return kUnknown;
  if (!l.rows || !l.cols || l.rows > 0x7fffffff || l.cols > 0x7fffffff) return kInvalid;
  if (l.ld < std::int64_t(l.row_major() ? l.cols : l.rows)) return kInvalid;
  if (l.batch < 1 || l.batch_stride < 0) return kInvalid;
  return kValid;
}

// cublasLtMatmul()'s table: compute, A and B, C and D.
cublasStatus_t check_types(const Matmul& op, const Layout* const l[4]) {
  const Number in = l[0]->type, out = l[3]->type;
  if (l[1]->type != in || l[2]->type != out) return kUnknown;
  if (out != Number::f32 && out != in) return kUnknown;
  if (op.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && in != Number::f32) return kUnknown;
  return kValid;
}

cublasStatus_t check_epilogue(const Matmul& op, const Layout* const l[4]) {
  Epilogue e;
  if (!epilogue_of(op.epilogue, &e)) return kUnknown;
  const Layout& d = *l[3];
  Number bias_type = d.type;
  if (op.bias_type != -1 && !number_of(cudaDataType_t(op.bias_type), &bias_type)) return kUnknown;
  if (bias_type != d.type) return kUnknown;
  // The bias lies along D's rows; no row-major example of an epilogue is documented.
  if (op.epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
    for (int i = 0; i < 4; ++i) {
      if (l[i]->row_major()) return kUnknown;
    }
  }
  if (!e.forward_only() && d.batch > 1) return kUnknown;
  if (e.uses_aux() && (op.aux_ld % 128 || op.aux_ld < std::int64_t(d.rows))) return kInvalid;
  // The sums are taken from operands in the layout in which a weight gradient reads them.
  if (e.sum_a && op.transpose_a != CUBLAS_OP_N) return kUnknown;
  if (e.sum_b && op.transpose_b != CUBLAS_OP_T) return kUnknown;
  return kValid;
}

std::size_t bias_count(const MatmulCall& call, const Epilogue& e) {
  const Layout& d = call.layout[3];
  return e.sum_b ? d.cols : d.rows + std::size_t(d.batch - 1) * std::size_t(call.op.bias_stride);
}

// op(X) as float, row by row.
std::vector<float> unpack(const Layout& l, const void* p, bool transpose, bool tf32) {
  const std::size_t rows = transpose ? l.cols : l.rows, cols = transpose ? l.rows : l.cols;
  std::vector<float> out(rows * cols);
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < cols; ++j) {
      const float value = load(l.type, p, transpose ? l.at(j, i) : l.at(i, j));
      out[i * cols + j] = tf32 ? to_tf32(value) : value;
    }
  }
  return out;
}

// sums[j] = sum over k of row[k] * b[k][j]
void multiply_row(const float* row, const float* b, float* sums, std::size_t k, std::size_t n) {
  std::fill(sums, sums + n, 0.0f);
  for (std::size_t q = 0; q < k; ++q) {
    const float factor = row[q];
    const float* const from = b + q * n;
    for (std::size_t j = 0; j < n; ++j) sums[j] += factor * from[j];
  }
}

bool mask_bit(const MatmulCall& call, std::size_t i, std::size_t j) {
  const std::size_t bit = i + j * std::size_t(call.op.aux_ld);
  return static_cast<const unsigned char*>(call.op.aux)[bit / 8] >> (bit % 8) & 1;
}

void set_mask_bit(const MatmulCall& call, std::size_t i, std::size_t j, bool on) {
  const std::size_t bit = i + j * std::size_t(call.op.aux_ld);
  unsigned char& byte = static_cast<unsigned char*>(call.op.aux)[bit / 8];
  byte = static_cast<unsigned char>((byte & ~(1u << bit % 8)) | (unsigned(on) << bit % 8));
}

struct Place {
  const MatmulCall& call;
  const Epilogue& epilogue;
  std::size_t batch;
};

void finish_row(const Place& place, std::size_t i, const std::vector<float>& sums) {
  const MatmulCall& call = place.call;
  const Epilogue& e = place.epilogue;
  const Layout& c = call.layout[2];
  const Layout& d = call.layout[3];
  const std::size_t c_base = place.batch * std::size_t(c.batch_stride);
  const std::size_t d_base = place.batch * std::size_t(d.batch_stride);
  const std::size_t bias_at = place.batch * std::size_t(call.op.bias_stride) + i;
  const float bias = e.add_bias ? load(d.type, call.op.bias, bias_at) : 0.0f;
  float total = 0;
  for (std::size_t j = 0; j < d.cols; ++j) {
    float value = call.alpha * sums[j];
    if (call.beta != 0) value += call.beta * load(c.type, call.operand[2], c_base + c.at(i, j));
    if (e.add_bias) value += bias;
    if (e.write_mask) set_mask_bit(call, i, j, value > 0);
    if (e.relu && value < 0) value = 0;  // a NaN stays
    if (e.read_mask && !mask_bit(call, i, j)) value = 0;
    total += value;
    store(d.type, call.d, d_base + d.at(i, j), value);
  }
  if (e.sum_d) store(d.type, call.op.bias, i, total);
}

// Bias gradients from an operand: the sums over k, of D's type.
void sum_operand(const MatmulCall& call, const Epilogue& e, const std::vector<float>& values) {
  const Layout& d = call.layout[3];
  const std::size_t count = e.sum_a ? d.rows : d.cols;
  const std::size_t k = values.size() / count;
  for (std::size_t i = 0; i < count; ++i) {
    float total = 0;
    for (std::size_t q = 0; q < k; ++q) total += values[e.sum_a ? i * k + q : q * count + i];
    store(d.type, call.op.bias, i, total);
  }
}

}  // namespace

bool number_of(cudaDataType_t type, Number* number) {
  switch (type) {
    case CUDA_R_32F:
      *number = Number::f32;
      return true;
    case CUDA_R_16BF:
      *number = Number::bf16;
      return true;
    case CUDA_R_16F:
      *number = Number::f16;
      return true;
    default:
      return false;
  }
}

cublasStatus_t check_matmul(const Matmul& op, const Layout* const l[4]) {
  for (int i = 0; i < 4; ++i) {
    if (const auto status = check_layout(*l[i])) return status;
    if (l[i]->batch != l[0]->batch) return kInvalid;
  }
  for (std::int32_t transpose : {op.transpose_a, op.transpose_b}) {
    if (transpose != CUBLAS_OP_N && transpose != CUBLAS_OP_T) return kUnknown;
  }
  const bool ta = op.transpose_a == CUBLAS_OP_T, tb = op.transpose_b == CUBLAS_OP_T;
  const std::uint64_t m = ta ? l[0]->cols : l[0]->rows, k = ta ? l[0]->rows : l[0]->cols;
  const std::uint64_t n = tb ? l[1]->rows : l[1]->cols;
  if ((tb ? l[1]->cols : l[1]->rows) != k) return kInvalid;
  for (int i = 2; i < 4; ++i) {
    if (l[i]->rows != m || l[i]->cols != n) return kInvalid;
  }
  if (l[2]->order != l[3]->order) return kUnknown;
  const Layout& d = *l[3];
  if (d.batch > 1 && std::size_t(d.batch_stride) * bytes_of(d.type) < d.matrix_bytes()) {
    return kInvalid;
  }
  if (const auto status = check_types(op, l)) return status;
  return check_epilogue(op, l);
}

cublasStatus_t check_algorithm(const MatmulCall& call, const Algorithm& algorithm) {
  if (call.workspace_bytes < algorithm.workspace) return kInvalid;
  const void* const pointers[4] = {call.operand[0], call.operand[1], call.operand[2], call.d};
  for (int i = 0; i < 4; ++i) {
    if (!aligned(pointers[i], algorithm.alignment[i])) return kInvalid;
  }
  // A vector load of 16 bytes is the widest that could have been chosen.
  Epilogue e;
  if (!epilogue_of(call.op.epilogue, &e)) return kUnknown;
  const std::size_t widest = 16;
  if (e.uses_bias() &&
      !aligned(call.op.bias, std::min<std::size_t>(widest, algorithm.bias_alignment))) {
    return kInvalid;
  }
  if (e.uses_aux() &&
      !aligned(call.op.aux, std::min<std::size_t>(widest, algorithm.aux_alignment))) {
    return kInvalid;
  }
  return kValid;
}

cublasStatus_t check_memory(const MatmulCall& call) {
  Epilogue e;
  if (!epilogue_of(call.op.epilogue, &e)) return kUnknown;
  const Layout& d = call.layout[3];
  for (int i = 0; i < 3; ++i) {
    const Layout& l = call.layout[i];
    if (!call.operand[i] || !aligned(call.operand[i], bytes_of(l.type))) return kInvalid;
    if (!device_range(call.operand[i], l.span())) return kInvalid;
    if (i < 2 && overlap(call.operand[i], l.span(), call.d, d.span())) return kInvalid;
  }
  if (!call.d || !aligned(call.d, bytes_of(d.type)) || !device_range(call.d, d.span())) {
    return kInvalid;
  }
  const Layout& c = call.layout[2];
  if (call.operand[2] == call.d) {  // in place: the same matrix
    if (c.ld != d.ld || c.batch_stride != d.batch_stride) return kInvalid;
  } else if (overlap(call.operand[2], c.span(), call.d, d.span())) {
    return kInvalid;
  }
  const std::size_t bias_bytes = bias_count(call, e) * bytes_of(d.type);
  if (e.uses_bias() && (!call.op.bias || !device_range(call.op.bias, bias_bytes))) return kInvalid;
  const std::size_t aux_bytes = d.cols * std::size_t(call.op.aux_ld) / 8;
  if (e.uses_aux() && (!call.op.aux || !device_range(call.op.aux, aux_bytes))) return kInvalid;
  if (call.workspace_bytes == 0) return kValid;
  const bool good =
      aligned(call.workspace, 256) && device_range(call.workspace, call.workspace_bytes);
  return good ? kValid : kInvalid;
}

void run_matmul(const MatmulCall& call) {
  Epilogue e;
  epilogue_of(call.op.epilogue, &e);
  trash(call.workspace, call.workspace_bytes);
  const bool tf32 = call.op.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  const Layout& d = call.layout[3];
  for (std::size_t batch = 0; batch < std::size_t(d.batch); ++batch) {
    auto operand = [&](int i, std::int32_t transpose) {
      const Layout& l = call.layout[i];
      const std::size_t offset = batch * std::size_t(l.batch_stride) * bytes_of(l.type);
      const void* const p = static_cast<const char*>(call.operand[i]) + offset;
      return unpack(l, p, transpose == CUBLAS_OP_T, tf32);
    };
    const std::vector<float> a = operand(0, call.op.transpose_a);
    const std::vector<float> b = operand(1, call.op.transpose_b);
    const std::size_t k = a.size() / d.rows;
    if (e.sum_a) sum_operand(call, e, a);
    if (e.sum_b) sum_operand(call, e, b);
    std::vector<float> sums(d.cols);
    for (std::size_t i = 0; i < d.rows; ++i) {
      multiply_row(&a[i * k], b.data(), sums.data(), k, d.cols);
      finish_row({call, e, batch}, i, sums);
    }
  }
  if (policy().wrong == "product") store(d.type, call.d, 1, load(d.type, call.d, 1) + 1);
}

}  // namespace hg
