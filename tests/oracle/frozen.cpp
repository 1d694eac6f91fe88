#include "frozen.h"

#include <gtest/gtest.h>

#include <cmath>

namespace cohort::testing {
namespace {

constexpr i64 batch_rows = 13;

double norm_of_trained(const Graph& graph, const Values& gradients) {
  double sum = 0;
  for (const Param& param : graph.params) {
    if (param.frozen || param.running) continue;
    for (double g : gradients.at(param.name)) sum += g * g;
  }
  return std::sqrt(sum);
}

}  // namespace

void check_frozen(const Family& family, Device& device) {
  const Graph whole = graph_from(family.model, family.fields, true);
  Graph graph = whole;
  for (std::size_t p = 0; p < graph.params.size() / 2; ++p) graph.params[p].frozen = true;
  Replica free(device, whole, one_rank(family, batch_rows)), part(device, graph, one_rank(family, batch_rows));
  const Values start = part.tensors();
  const auto solo = make_solo();
  for (i64 step = 0; step < 3; ++step) {
    const Batch batch =
        rows_of(graph, family.fields, batch_rows, {step, {0, batch_rows}, batch_rows});
    const std::vector<SparseRows> sparse = sparse_rows(graph, batch, *solo);
    const StepResult all = free.plan().gradients(batch, sparse, nullptr);
    const StepResult result = part.plan().step(batch, sparse, {}, nullptr, 0.01);
    ASSERT_FALSE(result.skipped);
    if (step > 0) continue;   // the weights were the same before the first step alone
    const double norm = norm_of_trained(graph, free.gradients()) / all.weight;
    EXPECT_GT(norm, 0);
    EXPECT_NEAR(result.grad_norm, norm, 1e-5 * norm);
  }
  const Values end = part.tensors();
  for (const Param& param : graph.params) {
    if (!param.frozen) {
      EXPECT_NE(end.at(param.name), start.at(param.name)) << param.name;
      continue;
    }
    EXPECT_EQ(end.at(param.name), start.at(param.name)) << param.name;
    if (param.running) continue;
    for (const std::string slot : {"optimizer/0/", "optimizer/1/"})
      EXPECT_EQ(end.at(slot + param.name), start.at(slot + param.name)) << slot << param.name;
  }
}

}  // namespace cohort::testing
