#include "train/slices.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "train/retention.h"

namespace cohort {
namespace {

std::vector<NamedView> some_tensors() {
  return {{"a", {nullptr, DType::f32, {7, 3}}},
          {"b", {nullptr, DType::f64, {5}}},
          {"scalar", {nullptr, DType::i64, {}}},
          {"none", {nullptr, DType::i32, {0, 4}}},
          {"bytes", {nullptr, DType::u8, {11, 2}}}};
}

TEST(Slices, EveryRowOnceForAnyNumberOfRanks) {
  const auto tensors = some_tensors();
  for (i64 n = 1; n <= 40; ++n) {
    const auto slices = cut_slices(tensors, n);
    ASSERT_EQ(static_cast<i64>(slices.size()), n);
    std::map<std::size_t, i64> at;
    for (const Slice& slice : slices) {
      for (const Piece& piece : slice.pieces) {
        EXPECT_EQ(at[piece.tensor], piece.begin) << n;
        at[piece.tensor] = piece.end;
      }
    }
    ASSERT_EQ(at.size(), tensors.size()) << n;
    for (const auto& [k, rows] : at) EXPECT_EQ(rows, rows_of(tensors[k].view)) << n;
  }
}

TEST(Slices, BytesAreEvenUpToARow) {
  const std::vector<NamedView> tensors = {{"w", {nullptr, DType::f32, {1000, 2}}},
                                          {"v", {nullptr, DType::f32, {501}}}};
  for (i64 n = 1; n <= 8; ++n) {
    const double mean = (1000 * 8 + 501 * 4) / static_cast<double>(n);
    for (const Slice& slice : cut_slices(tensors, n))
      EXPECT_NEAR(static_cast<double>(slice.bytes), mean, 9) << n;
  }
}

CheckpointFacts at_step(i64 step, double hours, bool good = true) {
  return {step, 2, 3, 100, good, hours * 3600};
}

TEST(Retention, LastBestAndHours) {
  std::vector<CheckpointFacts> all;
  for (i64 k = 1; k <= 9; ++k) all.push_back(at_step(10 * k, 0.5 * static_cast<double>(k)));
  EXPECT_EQ(steps_to_remove(all, {2, {30}, 0}), (std::vector<i64>{10, 20, 40, 50, 60, 70}));
  EXPECT_EQ(steps_to_remove(all, {1, {}, 2}), (std::vector<i64>{20, 30, 40, 60, 70, 80}));
}

TEST(Retention, TheNewestGoodOneStays) {
  EXPECT_EQ(steps_to_remove({at_step(10, 0), at_step(20, 0), at_step(30, 0, false)}, {1, {}, 0}),
            (std::vector<i64>{10}));
}

}  // namespace
}  // namespace cohort
