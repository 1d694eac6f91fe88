// The reference device against finite differences of its own forward pass.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "op_case.h"

namespace cohort::test {
namespace {

class ReferenceOp : public testing::TestWithParam<OpCase> {};

double slope_at(const OpCase& c, OpData& data, double& x) {
  const double before = x, step = 1e-6;
  x = before + step;
  const double high = objective(c, data);
  x = before - step;
  const double low = objective(c, data);
  x = before;
  return (high - low) / (2 * step);
}

bool has_backward(const OpCase& c) {
  return c.training && !std::holds_alternative<Ingest>(c.op);
}

TEST_P(ReferenceOp, InputGradientsAreSlopes) {
  const OpCase& c = GetParam();
  if (!has_backward(c)) return;
  OpData data = data_for(c);
  const auto device = make_reference_device();
  const OpResult result = run_case(*device, c, data);
  for (std::size_t k = 0; k < c.in.size(); ++k) {
    if (result.d_in[k].empty()) continue;
    const auto mask = defined_in(c, k);
    for (std::size_t i = 0; i < mask.size(); i += mask.size() > 400 ? 7 : 1) {
      if (!mask[i]) continue;
      EXPECT_NEAR(result.d_in[k][i], slope_at(c, data, data.in[k][i]), 2e-7) << k << " " << i;
    }
  }
}

TEST_P(ReferenceOp, ParameterGradientsAreSlopes) {
  const OpCase& c = GetParam();
  if (!has_backward(c)) return;
  OpData data = data_for(c);
  const auto device = make_reference_device();
  const OpResult result = run_case(*device, c, data);
  const auto* table = std::get_if<Embedding>(&c.op);
  std::map<double, std::size_t> slot;
  if (table && table->sparse) {
    for (double id : data.in[0])
      if (id >= 0) slot.emplace(id, 0);
    std::size_t next = 0;
    for (auto& entry : slot) entry.second = next++;
  }
  const std::size_t trained = std::min<std::size_t>(c.params.size(), 3);
  for (std::size_t p = 0; p < trained; ++p) {
    if (std::holds_alternative<BatchNorm>(c.op) && p >= 2) continue;
    const std::size_t n = data.param[p].size();
    for (std::size_t i = 0; i < n; i += n > 400 ? 11 : 1) {
      std::size_t from = i;
      if (table && table->sparse) {
        const auto dim = static_cast<std::size_t>(table->dim);
        const auto found = slot.find(static_cast<double>(i / dim));
        if (found == slot.end()) continue;
        from = found->second * dim + i % dim;
      }
      EXPECT_NEAR(result.d_param[p][from], slope_at(c, data, data.param[p][i]), 2e-7)
          << p << " " << i;
    }
  }
}

TEST_P(ReferenceOp, PaddingRowsAreNeverRead) {
  const OpCase& c = GetParam();
  const auto device = make_reference_device();
  const OpResult result = run_case(*device, c, data_for(c));
  const auto mask = defined_out(c);
  for (std::size_t i = 0; i < mask.size(); ++i) {
    if (mask[i]) {
      EXPECT_TRUE(std::isfinite(result.out[i])) << i;
    }
  }
  for (const auto& gradient : result.d_param)
    for (double v : gradient) EXPECT_TRUE(std::isfinite(v));
}

INSTANTIATE_TEST_SUITE_P(All, ReferenceOp, testing::ValuesIn(op_cases()),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace cohort::test
