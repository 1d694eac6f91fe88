#include <cublasLt.h>

#include "library_test.h"

namespace hg::library_test {
namespace {

cudaDataType_t data_type(Number type) {
  return type == Number::f32 ? CUDA_R_32F : type == Number::f16 ? CUDA_R_16F : CUDA_R_16BF;
}

struct Case {
  std::size_t m = 5, n = 7, k = 6;
  Number in = Number::f32, out = Number::f32;
  bool ta = false, tb = false;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  float alpha = 1, beta = 0;
  int batch = 1;
  bool row_major = false;
  int pad = 3;  // leading dimensions are that much longer
};

// Owns descriptors and buffers of one matmul and computes what it should give.
class Product {
 public:
  explicit Product(const Case& c)
      : c_(c),
        values_{values(0, c.ta ? c.k : c.m, c.ta ? c.m : c.k, c.in),
                values(1, c.tb ? c.n : c.k, c.tb ? c.k : c.n, c.in), values(2, c.m, c.n, c.out)},
        bias_values_(rounded(c.out, random_floats(std::max(c.m, c.n), 9))),
        a(pack(c.in, values_[0])),
        b(pack(c.in, values_[1])),
        d(pack(c.out, values_[2])),
        bias(pack(c.out, bias_values_)),
        mask(c.n * 128 / 8),
        workspace(64 * 1024) {
    EXPECT_EQ(cublasLtCreate(&handle), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatmulDescCreate(&desc, c.compute, CUDA_R_32F), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatmulPreferenceCreate(&preference), CUBLAS_STATUS_SUCCESS);
    set(CUBLASLT_MATMUL_DESC_TRANSA, std::int32_t(c.ta ? CUBLAS_OP_T : CUBLAS_OP_N));
    set(CUBLASLT_MATMUL_DESC_TRANSB, std::int32_t(c.tb ? CUBLAS_OP_T : CUBLAS_OP_N));
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, std::uint32_t(c.epilogue));
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<void*>(bias.get()));
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, static_cast<void*>(mask.get()));
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, std::int64_t(128));
    layout(0, c.ta ? c.k : c.m, c.ta ? c.m : c.k, c.in);
    layout(1, c.tb ? c.n : c.k, c.tb ? c.k : c.n, c.in);
    layout(2, c.m, c.n, c.out);
    prefer(std::uint64_t(64 * 1024), CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;
  ~Product() {
    for (auto l : layouts) cublasLtMatrixLayoutDestroy(l);
    cublasLtMatmulPreferenceDestroy(preference);
    cublasLtMatmulDescDestroy(desc);
    cublasLtDestroy(handle);
  }

  template <class T>
  void set(cublasLtMatmulDescAttributes_t name, T value) {
    EXPECT_EQ(cublasLtMatmulDescSetAttribute(desc, name, &value, sizeof value),
              CUBLAS_STATUS_SUCCESS);
  }
  template <class T>
  void prefer(T value, cublasLtMatmulPreferenceAttributes_t name) {
    EXPECT_EQ(cublasLtMatmulPreferenceSetAttribute(preference, name, &value, sizeof value),
              CUBLAS_STATUS_SUCCESS);
  }
  cublasStatus_t choose() {
    int found = 0;
    const auto status =
        cublasLtMatmulAlgoGetHeuristic(handle, desc, layouts[0], layouts[1], layouts[2], layouts[2],
                                       preference, 1, &result, &found);
    EXPECT_EQ(found, status == CUBLAS_STATUS_SUCCESS ? 1 : 0);
    return status;
  }
  cublasStatus_t run(const cublasLtMatmulAlgo_t* algo, std::size_t workspace_bytes = 64 * 1024) {
    const auto status = cublasLtMatmul(handle, desc, &c_.alpha, a.get(), layouts[0], b.get(),
                                       layouts[1], &c_.beta, d.get(), layouts[2], d.get(),
                                       layouts[2], algo, workspace.get(), workspace_bytes, stream);
    stream.wait();
    return status;
  }
  void run_chosen() {
    ASSERT_EQ(choose(), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(run(&result.algo, result.workspaceSize), CUBLAS_STATUS_SUCCESS);
  }

  std::size_t at(int operand, std::size_t batch, std::size_t row, std::size_t col) const {
    const Shape& s = shape_[operand];
    const std::size_t inner = c_.row_major ? col + row * s.ld : row + col * s.ld;
    return batch * s.stride + inner;
  }
  double a_at(std::size_t batch, std::size_t i, std::size_t q) const {
    return values_[0][c_.ta ? at(0, batch, q, i) : at(0, batch, i, q)];
  }
  double b_at(std::size_t batch, std::size_t q, std::size_t j) const {
    return values_[1][c_.tb ? at(1, batch, j, q) : at(1, batch, q, j)];
  }
  double sum(std::size_t batch, std::size_t i, std::size_t j) const {
    double total = 0;
    for (std::size_t q = 0; q < c_.k; ++q) total += a_at(batch, i, q) * b_at(batch, q, j);
    return c_.alpha * total + c_.beta * values_[2][at(2, batch, i, j)];
  }
  // D where a matmul writes it, in the order (batch, row, column).
  std::vector<float> result_values() const {
    const std::vector<float> all = unpack(c_.out, d.values());
    std::vector<float> out;
    for (int batch = 0; batch < c_.batch; ++batch) {
      for (std::size_t i = 0; i < c_.m; ++i) {
        for (std::size_t j = 0; j < c_.n; ++j) out.push_back(all[at(2, batch, i, j)]);
      }
    }
    return out;
  }
  template <class F>
  std::vector<double> expected(F finish) const {
    std::vector<double> out;
    for (int batch = 0; batch < c_.batch; ++batch) {
      for (std::size_t i = 0; i < c_.m; ++i) {
        for (std::size_t j = 0; j < c_.n; ++j) out.push_back(finish(sum(batch, i, j), i, j));
      }
    }
    return out;
  }
  double bias_at(std::size_t i) const { return bias_values_[i]; }

 private:
  struct Shape {
    std::size_t rows = 0, cols = 0, ld = 0, stride = 0;
  };
  std::vector<float> values(int operand, std::size_t rows, std::size_t cols, Number type) {
    const std::size_t ld = (c_.row_major ? cols : rows) + std::size_t(c_.pad);
    const std::size_t stride = ld * (c_.row_major ? rows : cols) + 2;
    shape_[operand] = {rows, cols, ld, stride};
    return rounded(type, random_floats(stride * std::size_t(c_.batch), unsigned(operand) + 1));
  }
  void layout(int operand, std::size_t rows, std::size_t cols, Number type) {
    const Shape& s = shape_[operand];
    cublasLtMatrixLayout_t& l = layouts[operand];
    ASSERT_EQ(cublasLtMatrixLayoutCreate(&l, data_type(type), rows, cols, std::int64_t(s.ld)),
              CUBLAS_STATUS_SUCCESS);
    const std::int32_t order = c_.row_major ? CUBLASLT_ORDER_ROW : CUBLASLT_ORDER_COL;
    const std::int32_t batch = c_.batch;
    const auto stride = std::int64_t(s.stride);
    cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof order);
    cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch);
    cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                     sizeof stride);
  }

  Case c_;
  Shape shape_[3];
  std::vector<float> values_[3], bias_values_;

 public:
  Buffer<unsigned char> a, b, d, bias, mask, workspace;
  Stream stream;
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t layouts[3] = {};
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulHeuristicResult_t result{};
};

double identity(double value, std::size_t, std::size_t) { return value; }

TEST(GpuOnHostCublasLt, EveryTypeTransposeAndOrder) {
  const Number types[][2] = {{Number::f32, Number::f32},
                             {Number::bf16, Number::bf16},
                             {Number::bf16, Number::f32},
                             {Number::f16, Number::f16},
                             {Number::f16, Number::f32}};
  for (const auto& type : types) {
    for (int bits = 0; bits < 8; ++bits) {
      Case c;
      c.in = type[0];
      c.out = type[1];
      c.ta = bits & 1;
      c.tb = bits & 2;
      c.row_major = bits & 4;
      c.alpha = 0.5f;
      c.beta = 2.0f;
      c.batch = 2;
      Product p(c);
      p.run_chosen();
      expect_near(p.result_values(), p.expected(identity), tolerance(c.out));
      EXPECT_EQ(p.workspace.values(), std::vector<unsigned char>(64 * 1024, 0xff));
    }
  }
}

TEST(GpuOnHostCublasLt, Tf32RoundsItsOperands) {
  Case c;
  c.compute = CUBLAS_COMPUTE_32F_FAST_TF32;
  Product p(c);
  p.run_chosen();
  expect_near(p.result_values(), p.expected(identity), 2e-3);
  EXPECT_NE(p.result_values(), [&] {
    c.compute = CUBLAS_COMPUTE_32F;
    Product exact(c);
    exact.run_chosen();
    return exact.result_values();
  }());
}

TEST(GpuOnHostCublasLt, BiasAndRelu) {
  for (auto epilogue : {CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_RELU, CUBLASLT_EPILOGUE_RELU_BIAS,
                        CUBLASLT_EPILOGUE_RELU_AUX, CUBLASLT_EPILOGUE_RELU_AUX_BIAS}) {
    Case c;
    c.in = c.out = Number::bf16;
    c.epilogue = epilogue;
    Product p(c);
    p.run_chosen();
    const bool bias = epilogue & CUBLASLT_EPILOGUE_BIAS, relu = epilogue & CUBLASLT_EPILOGUE_RELU;
    const std::vector<double> expected = p.expected([&](double value, std::size_t i, std::size_t) {
      value += bias ? p.bias_at(i) : 0;
      return relu ? std::max(value, 0.0) : value;
    });
    expect_near(p.result_values(), expected, tolerance(c.out));
  }
}

TEST(GpuOnHostCublasLt, ReluMaskGoesBackward) {
  Case forward;
  forward.epilogue = CUBLASLT_EPILOGUE_RELU_AUX_BIAS;
  Product y(forward);
  y.run_chosen();
  const std::vector<float> outputs = y.result_values();
  Case backward;
  backward.epilogue = CUBLASLT_EPILOGUE_DRELU_BGRAD;
  backward.k = 4;
  Product dx(backward);
  dx.mask.set(y.mask.values());
  dx.run_chosen();
  const std::vector<double> expected = dx.expected([&](double value, std::size_t i, std::size_t j) {
    return outputs[i * backward.n + j] > 0 ? value : 0.0;
  });
  expect_near(dx.result_values(), expected, 1e-5);
  const std::vector<float> sums = unpack(Number::f32, dx.bias.values());
  for (std::size_t i = 0; i < backward.m; ++i) {
    double total = 0;
    for (std::size_t j = 0; j < backward.n; ++j) total += expected[i * backward.n + j];
    EXPECT_NEAR(sums[i], total, 1e-5);
  }
}

TEST(GpuOnHostCublasLt, BiasGradientOfAnOperand) {
  for (const bool of_a : {true, false}) {
    Case c;
    c.in = Number::bf16;
    c.tb = true;
    c.epilogue = of_a ? CUBLASLT_EPILOGUE_BGRADA : CUBLASLT_EPILOGUE_BGRADB;
    Product p(c);
    p.run_chosen();
    expect_near(p.result_values(), p.expected(identity), 1e-5);
    const std::vector<float> sums = unpack(Number::f32, p.bias.values());
    for (std::size_t i = 0; i < (of_a ? c.m : c.n); ++i) {
      double total = 0;
      for (std::size_t q = 0; q < c.k; ++q) total += of_a ? p.a_at(0, i, q) : p.b_at(0, q, i);
      EXPECT_NEAR(sums[i], total, 1e-5);
    }
  }
}

TEST(GpuOnHostCublasLt, RefusesWhatIsNotDocumented) {
  cublasLtMatmulDesc_t desc;
  EXPECT_EQ(cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_16F, CUDA_R_16F),
            CUBLAS_STATUS_NOT_SUPPORTED);
  cublasLtMatrixLayout_t layout;
  EXPECT_EQ(cublasLtMatrixLayoutCreate(&layout, CUDA_R_8I, 4, 4, 4), CUBLAS_STATUS_NOT_SUPPORTED);
  auto status = [](const Case& c, auto change) {
    Product p(c);
    change(p);
    return p.choose();
  };
  auto as_it_is = [](Product&) {};
  Case c;
  c.in = Number::bf16;
  c.compute = CUBLAS_COMPUTE_32F_FAST_TF32;
  EXPECT_EQ(status(c, as_it_is), CUBLAS_STATUS_NOT_SUPPORTED);
  c = {};
  c.out = Number::bf16;
  EXPECT_EQ(status(c, as_it_is), CUBLAS_STATUS_NOT_SUPPORTED);
  c = {};
  c.epilogue = CUBLASLT_EPILOGUE_GELU;
  EXPECT_EQ(status(c, as_it_is), CUBLAS_STATUS_NOT_SUPPORTED);
  c.epilogue = CUBLASLT_EPILOGUE_BGRADB;
  EXPECT_EQ(status(c, as_it_is), CUBLAS_STATUS_NOT_SUPPORTED);
  c.epilogue = CUBLASLT_EPILOGUE_BIAS;
  c.row_major = true;
  EXPECT_EQ(status(c, as_it_is), CUBLAS_STATUS_NOT_SUPPORTED);
  c.row_major = false;
  EXPECT_EQ(status(c, [](Product& p) { std::swap(p.layouts[0], p.layouts[1]); }),
            CUBLAS_STATUS_INVALID_VALUE);
  c.epilogue = CUBLASLT_EPILOGUE_RELU_AUX;
  EXPECT_EQ(status(c, [](Product& p) { p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{64}); }),
            CUBLAS_STATUS_INVALID_VALUE);
  Product p{Case{}};
  const std::int32_t four = 4;
  EXPECT_EQ(cublasLtMatmulDescSetAttribute(p.desc, CUBLASLT_MATMUL_DESC_TRANSA, &four, 8),
            CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(cublasLtMatmulDescSetAttribute(p.desc, CUBLASLT_MATMUL_DESC_FAST_ACCUM, &four, 1),
            CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST(GpuOnHostCublasLt, RefusesForeignAlgorithmsAndMemory) {
  Product p{Case{}};
  ASSERT_EQ(p.choose(), CUBLAS_STATUS_SUCCESS);
  ASSERT_GT(p.result.workspaceSize, 0u);
  EXPECT_EQ(p.run(&p.result.algo), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(p.run(nullptr, 0), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(p.run(&p.result.algo, p.result.workspaceSize - 1), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(p.run(nullptr, 64 * 1024 + 1), CUBLAS_STATUS_INVALID_VALUE);
  cublasLtMatmulAlgo_t unknown{};
  EXPECT_EQ(p.run(&unknown), CUBLAS_STATUS_INVALID_VALUE);
  Case other;
  other.k = 5;
  Product q(other);
  EXPECT_EQ(q.run(&p.result.algo), CUBLAS_STATUS_INVALID_VALUE);
  const float one = 1, zero = 0;
  auto run = [&](const void* a, void* d, const cublasLtMatmulAlgo_t* algo) {
    return cublasLtMatmul(p.handle, p.desc, &one, a, p.layouts[0], p.b.get(), p.layouts[1], &zero,
                          d, p.layouts[2], d, p.layouts[2], algo, p.workspace.get(), 64 * 1024,
                          p.stream);
  };
  std::vector<float> host(1000);
  EXPECT_EQ(run(host.data(), p.d.get(), nullptr), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(run(p.b.get(), p.b.get(), nullptr), CUBLAS_STATUS_INVALID_VALUE);
  const Buffer<float> odd(std::vector<float>(1000), 4);  // aligned to 4 bytes only
  EXPECT_EQ(run(odd.get(), p.d.get(), nullptr), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(run(odd.get(), p.d.get(), &p.result.algo), CUBLAS_STATUS_INVALID_VALUE);
  p.prefer(std::uint32_t(4), CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
  ASSERT_EQ(p.choose(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(run(odd.get(), p.d.get(), &p.result.algo), CUBLAS_STATUS_SUCCESS);
  p.stream.wait();
}

}  // namespace
}  // namespace hg::library_test
