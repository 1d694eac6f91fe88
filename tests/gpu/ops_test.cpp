// The CUDA device against the reference device: every op, every type of activations; and the same
// bits whatever the order of threads and blocks.
#include <gtest/gtest.h>

#include <tuple>

#include "cuda_devices.h"
#include "op_case.h"

namespace cohort::test {
namespace {

class CudaOp : public testing::TestWithParam<OpCase> {};

double tolerance_of(const std::string& precision) {
  if (precision == "bf16") return 6e-2;   // 8 bits in inputs, weights and results
  return precision == "f16" ? 8e-3 : 3e-5;
}

TEST_P(CudaOp, AgreesWithTheReference) {
  for (const char* precision : {"f32", "bf16", "f16"}) {
    const auto device = cuda::make_device({0, precision, false});
    EXPECT_EQ(compare(*device, GetParam(), tolerance_of(precision), true), "") << precision;
  }
}

TEST_P(CudaOp, RepeatsBitForBit) {
  const OpCase& c = GetParam();
  const OpData data = data_for(c);
  OpResult first;
  for_each_order([&](const std::string& order) {
    const auto device = cuda::make_device({0, "f32", false});
    const OpResult result = run_case(*device, c, data);
    if (first.out.empty()) first = result;
    EXPECT_EQ(result.d_param, first.d_param) << order;
    const auto mask = defined_out(c);
    for (std::size_t i = 0; i < mask.size(); ++i)
      if (mask[i]) ASSERT_EQ(result.out[i], first.out[i]) << order << " " << i;
    for (std::size_t k = 0; k < result.d_in.size(); ++k) {
      const auto mask_in = defined_in(c, k);
      for (std::size_t i = 0; i < result.d_in[k].size(); ++i)
        if (mask_in[i]) ASSERT_EQ(result.d_in[k][i], first.d_in[k][i]) << order << " " << k;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(All, CudaOp, testing::ValuesIn(op_cases()),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace cohort::test
