#include <gtest/gtest.h>

#include "frozen.h"

namespace cohort::testing {
namespace {

class FrozenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(FrozenTest, ReferenceDevice) {
  const auto device = make_reference_device();
  check_frozen(with_batch_norm(GetParam()), *device);
}

TEST_P(FrozenTest, CpuDevice) {
  const auto device = make_cpu_device({});
  check_frozen(with_batch_norm(GetParam()), *device);
}

INSTANTIATE_TEST_SUITE_P(Families, FrozenTest, ::testing::ValuesIn(family_names()),
                         [](const auto& test) { return test_name(test.param); });

}  // namespace
}  // namespace cohort::testing
