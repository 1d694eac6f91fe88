// Optimizer updates and gradient norms of the host devices.
#include "update_checks.h"

namespace cohort::test {
namespace {

INSTANTIATE_TEST_SUITE_P(
    Devices, Updates,
    testing::Values(DeviceChoice{"reference", make_reference_device, 1e-13},
                    DeviceChoice{"cpu", [] { return make_cpu_device({}); }},
                    DeviceChoice{"cpu_threads", [] { return make_cpu_device({3, "auto"}); }}),
    [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace cohort::test
