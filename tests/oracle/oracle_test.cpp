// Every architecture against PyTorch: logits, all gradients and ten losses.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "oracle.h"

namespace cohort::testing {
namespace {

class OracleTest : public ::testing::TestWithParam<const char*> {};

TEST(OracleFixtures, EveryOneIsTested) {
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(COHORT_FIXTURES))
    files += entry.path().extension() == ".json";
  EXPECT_EQ(files, std::size(oracle_names));
}

TEST_P(OracleTest, ReferenceDevice) {
  for (bool fused : {true, false}) {
    SCOPED_TRACE(fused ? "fused" : "not fused");
    Oracle oracle(GetParam(), fused);
    const auto device = make_reference_device();
    check_logits(oracle, *device, 1e-9);
    check_training(oracle, *device, 1e-9);
  }
}

TEST_P(OracleTest, CpuDevice) {
  for (const std::string isa : {"baseline", "avx2", "avx512"}) {
    for (int threads : {1, 2}) {
      for (bool fused : {true, false}) {
        SCOPED_TRACE(isa + ", threads " + std::to_string(threads) + (fused ? ", fused" : ""));
        Oracle oracle(GetParam(), fused);
        const auto device = make_cpu_device({threads, isa});
        check_logits(oracle, *device, 1e-4);
        check_training(oracle, *device, 1e-4);
      }
    }
    if (isa == best_cpu_isa()) break;
  }
}

// A plan without hardware: the same steps are compiled, nothing is computed.
TEST_P(OracleTest, NullDevicePlansTheSameSteps) {
  Oracle oracle(GetParam(), true);
  oracle.config.train = true;
  const auto reference = make_reference_device(), null = make_null_device();
  Replica real(*reference, oracle.graph, oracle.config), empty(*null, oracle.graph, oracle.config);
  const auto lines = [](const std::string& text) {
    return std::count(text.begin(), text.end(), '\n');
  };
  EXPECT_EQ(lines(empty.plan().print()), lines(real.plan().print()));
  const Values before = empty.tensors();
  const auto solo = make_solo();
  const auto sparse = sparse_rows(oracle.graph, oracle.batch, *solo);
  EXPECT_EQ(empty.plan().step(oracle.batch, sparse, {}, nullptr, 0.01).weight, 0);
  EXPECT_EQ(empty.tensors(), before);
}

INSTANTIATE_TEST_SUITE_P(PyTorch, OracleTest, ::testing::ValuesIn(oracle_names),
                         [](const auto& test) { return test_name(test.param); });

}  // namespace
}  // namespace cohort::testing
