// The CPU device against the reference device: every op, several thread counts, every instruction
// set that this processor offers; and bit for bit against itself.
#include <gtest/gtest.h>

#include <tuple>

#include "op_case.h"

namespace cohort::test {
namespace {

std::vector<std::string> offered_isas() {
  const std::string best = best_cpu_isa();
  if (best == "avx512") return {"baseline", "avx2", "avx512"};
  if (best == "avx2") return {"baseline", "avx2"};
  return {"baseline"};
}

class CpuOp : public testing::TestWithParam<OpCase> {};

TEST_P(CpuOp, AgreesWithTheReference) {
  for (const std::string& isa : offered_isas()) {
    for (const int threads : {1, 2, 3}) {
      for (const bool frozen : {false, true}) {
        const auto device = make_cpu_device({threads, isa, frozen});
        EXPECT_EQ(compare(*device, GetParam(), 2e-5), "")
            << isa << ", threads " << threads << ", frozen " << frozen;
      }
    }
  }
}

TEST_P(CpuOp, RepeatsBitForBit) {
  const OpCase& c = GetParam();
  const OpData data = data_for(c);
  const auto defined = [&](const OpResult& result) {
    std::vector<double> values;
    const auto mask = defined_out(c);
    for (std::size_t i = 0; i < mask.size(); ++i)
      if (mask[i]) values.push_back(result.out[i]);
    for (std::size_t k = 0; k < result.d_in.size(); ++k) {
      if (result.d_in[k].empty()) continue;
      const auto mask_in = defined_in(c, k);
      for (std::size_t i = 0; i < mask_in.size(); ++i)
        if (mask_in[i]) values.push_back(result.d_in[k][i]);
    }
    for (const auto& gradient : result.d_param)
      values.insert(values.end(), gradient.begin(), gradient.end());
    return values;
  };
  for (const int threads : {1, 3}) {
    const auto first = make_cpu_device({threads, "auto"});
    const auto again = make_cpu_device({threads, "auto"});
    EXPECT_EQ(defined(run_case(*first, c, data)), defined(run_case(*again, c, data))) << threads;
  }
}

INSTANTIATE_TEST_SUITE_P(All, CpuOp, testing::ValuesIn(op_cases()),
                         [](const auto& each) { return each.param.name; });

TEST(CpuDevice, RefusesAnUnknownInstructionSet) {
  EXPECT_ANY_THROW(make_cpu_device({1, "avx1024"}));
}

}  // namespace
}  // namespace cohort::test
