// The CUDA device against the reference device: every op, every type of activations; and the same
// bits whatever the order of threads and blocks.
#include <gtest/gtest.h>

#include <tuple>

#include "cuda_devices.h"
#include "kernel_shapes.h"

namespace cohort::test {
namespace {

class CudaOp : public testing::TestWithParam<OpCase> {};

double tolerance_of(const std::string& precision) {
  if (precision == "bf16") return 2e-2;   // results have 8 bits
  return precision == "f16" ? 2e-3 : 3e-5;
}

TEST_P(CudaOp, AgreesWithTheReference) {
  for (const std::string precision : {"f32", "bf16", "f16"}) {
    if (GetParam().exact && precision != "f32") continue;
    const auto device = cuda::make_device({0, precision, false});
    EXPECT_EQ(compare(*device, GetParam(), tolerance_of(precision), true), "") << precision;
  }
}

std::vector<double> chosen(const std::vector<double>& values, const std::vector<char>& mask) {
  std::vector<double> out;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (mask[i]) out.push_back(values[i]);
  return out;
}

TEST_P(CudaOp, RepeatsBitForBit) {
  const OpCase& c = GetParam();
  const OpData data = data_for(c, *cuda::make_device({}), true);
  OpResult first;
  for_each_order([&](const std::string& order) {
    const auto device = cuda::make_device({0, "f32", false});
    const OpResult result = run_case(*device, c, data);
    if (first.out.empty()) first = result;
    EXPECT_EQ(result.d_param, first.d_param) << order;
    EXPECT_EQ(chosen(result.out, defined_out(c)), chosen(first.out, defined_out(c))) << order;
    for (std::size_t k = 0; k < result.d_in.size(); ++k)
      EXPECT_EQ(chosen(result.d_in[k], defined_in(c, k)), chosen(first.d_in[k], defined_in(c, k)))
          << order << ", input " << k;
  });
}

INSTANTIATE_TEST_SUITE_P(All, CudaOp, testing::ValuesIn(op_cases()),
                         [](const auto& each) { return each.param.name; });
INSTANTIATE_TEST_SUITE_P(Shapes, CudaOp, testing::ValuesIn(kernel_shapes()),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace cohort::test
