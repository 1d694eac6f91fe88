// What kernels rely on of each other: zeros in padding rows and in steps past the end of a sequence,
// in values and in gradients. Only products are given zeros there.
#include <gtest/gtest.h>

#include <cmath>

#include "cuda_devices.h"
#include "kernel_shapes.h"

namespace cohort::test {
namespace {

class CudaPadding : public testing::TestWithParam<OpCase> {};

void expect_zeros(const std::vector<double>& values, const std::vector<char>& used,
                  const std::string& what) {
  for (std::size_t i = 0; i < values.size(); ++i)
    ASSERT_TRUE(used[i] || values[i] == 0) << what << "[" << i << "] is " << values[i];
}

TEST_P(CudaPadding, IsZero) {
  const OpCase& c = GetParam();
  const auto device = cuda::make_device({0, "f32", false});
  OpData data = data_for(c, *device, true);
  if (std::holds_alternative<Conv2d>(c.op) || std::holds_alternative<Dense>(c.op))
    for (double& d : data.d_out) d = std::isnan(d) ? 0 : d;
  const OpResult result = run_case(*device, c, data);
  const bool ids_alone = std::holds_alternative<Ingest>(c.op) && c.ids > 0;
  if (!std::holds_alternative<Loss>(c.op) && !ids_alone)
    expect_zeros(result.out, defined_out(c), "out");
  // A sequence shorter than the window is padded: the window's gradient reaches beyond its end.
  if (std::holds_alternative<Conv1d>(c.op)) return;
  for (std::size_t k = 0; k < result.d_in.size(); ++k)
    expect_zeros(result.d_in[k], defined_in(c, k), "gradient of input " + std::to_string(k));
}

INSTANTIATE_TEST_SUITE_P(All, CudaPadding, testing::ValuesIn(op_cases()),
                         [](const auto& each) { return each.param.name; });
INSTANTIATE_TEST_SUITE_P(Shapes, CudaPadding, testing::ValuesIn(kernel_shapes()),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace cohort::test
