#include "comm/affinity.h"

#include <gtest/gtest.h>

namespace cohort {
namespace {

TEST(Affinity, RanksThatShareCoresShareThemEvenly) {
  EXPECT_EQ(fair_threads({{"a", {0, 1, 2, 3}}}), 4);
  EXPECT_EQ(fair_threads({{"a", {0, 1, 2, 3}}, {"a", {0, 1, 2, 3}}}), 2);
  EXPECT_EQ(fair_threads({{"a", {0, 1, 2, 3}}, {"a", {0, 1, 2, 3}}, {"a", {0, 1, 2, 3}}}), 1);
  EXPECT_EQ(fair_threads({{"a", {0}}, {"a", {0}}}), 1);
}

TEST(Affinity, ABoundRankHasItsCoresForItself) {
  EXPECT_EQ(fair_threads({{"a", {0, 1}}, {"a", {2, 3}}}), 2);
  EXPECT_EQ(fair_threads({{"a", {0}}, {"a", {1}}}), 1);
}

TEST(Affinity, TheHostWithTheFewestDecides) {
  EXPECT_EQ(fair_threads({{"a", {0, 1, 2, 3}}, {"b", {0, 1}}}), 2);
  EXPECT_EQ(fair_threads({{"a", {0, 1, 2}}, {"b", {0, 1, 2, 3}}, {"b", {0, 1, 2, 3}}}), 2);
}

TEST(Affinity, MoreThreadsThanCoresAreToldWithTheCure) {
  EXPECT_EQ(crowded(1, 1 << 20), "");
  EXPECT_NE(crowded(1 << 20, 1).find("--bind-to none"), std::string::npos);
}

}  // namespace
}  // namespace cohort
