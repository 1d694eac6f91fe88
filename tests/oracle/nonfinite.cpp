#include "nonfinite.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

namespace cohort::testing {
namespace {

constexpr i64 batch_rows = 13, spoiled_row = 4;
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

void spoil_parameter(Replica& replica, const Graph& graph, i64 param) {
  Values tensors = replica.tensors();
  tensors.at(graph.params[static_cast<std::size_t>(param)].name).back() = nan;
  replica.restore(tensors);
}

}  // namespace

void check_nonfinite(const Family& family, Device& device) {
  const Graph graph = graph_from(family.model, family.fields, true);
  Replica searched(device, graph, one_rank(family, batch_rows)), other(device, graph, one_rank(family, batch_rows));
  const auto solo = make_solo();
  const Values start = searched.tensors();
  for (i64 step = 0; step < 3; ++step) {   // the last one has padding rows
    const Batch batch =
        rows_of(graph, family.fields, batch_rows, {step, {0, batch_rows}, batch_rows});
    const std::vector<SparseRows> sparse = sparse_rows(graph, batch, *solo);
    const auto find = [&](const Batch& rows) {
      return searched.plan().find_nonfinite(rows, sparse, nullptr);
    };
    EXPECT_EQ(find(batch).order, -1) << find(batch).tensor;
    for (std::size_t k = 0; k < graph.inputs.size(); ++k) {
      if (graph.inputs[k].dtype != DType::f32) continue;
      Batch spoiled = batch;
      const i64 at = spoiled_row * count(graph.inputs[k].shape);
      const float value = std::numeric_limits<float>::infinity();
      std::memcpy(spoiled.columns[k].data.data() + at * 4, &value, 4);
      const NonFinite found = find(spoiled);
      EXPECT_EQ(found.tensor, "input '" + graph.inputs[k].field + "'");
      EXPECT_EQ(found.rows, std::vector<i64>{spoiled_row});
    }
    // A target so far away that the loss or its gradient overflows.
    for (std::size_t k = 0; k < graph.inputs.size(); ++k) {
      if (graph.inputs[k].field != "target" || device.activation() != DType::f32) continue;
      Batch spoiled = batch;
      const float value = 3e38f;
      std::memcpy(spoiled.columns[k].data.data() + spoiled_row * 4, &value, 4);
      const NonFinite found = find(spoiled);
      EXPECT_TRUE(found.largest_row == spoiled_row || found.rows == std::vector<i64>{spoiled_row})
          << found.tensor << ", row " << found.largest_row << " has " << found.largest;
      EXPECT_EQ(found.tensor.find("input"), std::string::npos) << found.tensor;
    }
    const Values sound = searched.tensors();
    const auto param = step % static_cast<i64>(graph.params.size());
    spoil_parameter(searched, graph, param);
    EXPECT_EQ(find(batch).tensor,
              "parameter " + graph.params[static_cast<std::size_t>(param)].name);
    searched.restore(sound);
    for (Replica* replica : {&searched, &other})
      EXPECT_FALSE(replica->plan().step(batch, sparse, {}, nullptr, 0.01).skipped);
  }
  EXPECT_EQ(searched.tensors(), other.tensors());
  EXPECT_NE(searched.tensors(), start);
}

}  // namespace cohort::testing
