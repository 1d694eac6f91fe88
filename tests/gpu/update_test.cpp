// Optimizer updates and gradient norms of the CUDA device.
#include "cuda_devices.h"
#include "update_checks.h"

namespace cohort::test {
namespace {

INSTANTIATE_TEST_SUITE_P(
    Devices, Updates,
    testing::Values(DeviceChoice{"cuda", [] { return cuda::make_device({0, "f32", false}); }}),
    [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace cohort::test
