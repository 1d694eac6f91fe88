#include "base/rng.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

namespace cohort {
namespace {

// kat_vectors of Random123 (Salmon et al.): philox4x32, 10 rounds.
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox(0, 0, 0), (Philox{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox(~0ull, ~0ull, ~0ull), (Philox{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  // Counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0, lowest word first.
  EXPECT_EQ(philox(0x299f31d0a4093822ull, 0x0370734413198a2eull, 0x85a308d3243f6a88ull),
            (Philox{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(MixKey, DependsOnOrderAndOnEveryPart) {
  EXPECT_NE(mix_key(1, 2), mix_key(2, 1));
  EXPECT_NE(mix_key(1, 2, 3), mix_key(1, 3, 2));
  EXPECT_EQ(mix_key(1, 2, 3), mix_key(mix_key(1, 2), 3));
  std::set<u64> keys;
  for (u64 a = 0; a < 30; ++a)
    for (u64 b = 0; b < 30; ++b) keys.insert(mix_key(a, b));
  EXPECT_EQ(keys.size(), 900u);
}

TEST(NameKey, IsXxh64OfTheBytes) { EXPECT_EQ(name_key(""), 0xef46db3751d8e999ull); }

TEST(Stream, RunsThroughTheWordsOfItsBlocksInOrder) {
  Stream s(7);
  for (u64 block = 0; block < 3; ++block)
    for (const u32 word : philox(7, 0, block)) EXPECT_EQ(s.next_u32(), word);
}

TEST(Stream, UniformAndNormalHaveTheirMoments) {
  Stream s(42);
  const int n = 200000;
  double sum = 0, squares = 0, fourth = 0, flat = 0;
  for (int i = 0; i < n; ++i) {
    const double u = s.uniform();
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    flat += u;
    const double z = s.normal();
    sum += z;
    squares += z * z;
    fourth += z * z * z * z;
  }
  EXPECT_NEAR(flat / n, 0.5, 0.004);  // 6 standard errors
  EXPECT_NEAR(sum / n, 0.0, 0.0135);
  EXPECT_NEAR(squares / n, 1.0, 0.019);
  EXPECT_NEAR(fourth / n, 3.0, 0.132);
}

TEST(Stream, BelowStaysInRangeAndIsFlat) {
  Stream s(3);
  std::vector<i64> counts(7, 0);
  for (int i = 0; i < 70000; ++i) ++counts.at(static_cast<std::size_t>(s.below(7)));
  for (const i64 count : counts) EXPECT_NEAR(static_cast<double>(count), 10000, 560);
  EXPECT_EQ(Stream(1).below(1), 0);
  Stream big(9);
  for (int i = 0; i < 100; ++i) {
    const i64 value = big.below((i64{1} << 62) + 1);
    ASSERT_GE(value, 0);
    ASSERT_LE(value, i64{1} << 62);
  }
  EXPECT_THROW(Stream(1).below(0), std::logic_error);
}

TEST(Stream, ShuffleIsAPermutationThatTheKeyDecides) {
  std::vector<i64> a(101), b, c;
  std::iota(a.begin(), a.end(), 0);
  const std::vector<i64> sorted = a;
  b = c = a;
  Stream(5).shuffle(a);
  Stream(5).shuffle(b);
  Stream(6).shuffle(c);
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
  EXPECT_NE(a, sorted);
  std::sort(a.begin(), a.end());
  EXPECT_EQ(a, sorted);
}

}  // namespace
}  // namespace cohort
