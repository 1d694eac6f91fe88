#include "tensor/tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/rng.h"
#include "tensor/layout.h"

namespace cohort {
namespace {

TEST(Tensor, CountsAndNames) {
  EXPECT_EQ(count({}), 1);
  EXPECT_EQ(count({3, 0, 5}), 0);
  EXPECT_EQ(count({3, 7, 5}), 105);
  EXPECT_EQ(count({i64{1} << 40, 1 << 20}), i64{1} << 60);  // beyond 32 bits
  EXPECT_EQ(to_string({32, 10}), "[32, 10]");
  EXPECT_EQ(to_string({}), "[]");
  const i64 sizes[] = {4, 8, 4, 8, 1};
  int k = 0;
  for (DType type : {DType::f32, DType::f64, DType::i32, DType::i64, DType::u8}) {
    EXPECT_EQ(size_of(type), sizes[k++]);
    EXPECT_EQ(dtype_from(name_of(type)), type);
  }
  EXPECT_EQ((View{nullptr, DType::f64, {3, 5}}).bytes(), 120);
}

TEST(Tensor, RefusesWhatIsNoShapeOrType) {
  EXPECT_THROW(count({i64{1} << 40, i64{1} << 23}), Error);
  EXPECT_THROW(count({4, -1}), Error);
  try {
    dtype_from("float16");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), Exit::usage);
    EXPECT_THAT(error.what(), testing::HasSubstr("float16"));
    EXPECT_THAT(error.what(), testing::HasSubstr("float32"));
  }
}

TEST(Layout, SegmentsStartOnMultiplesOf16) {
  Layout layout;
  EXPECT_EQ(layout.add("a", {3, 5}), 0);
  EXPECT_EQ(layout.add("b", {16}), 1);
  EXPECT_EQ(layout.add("c", {}), 2);
  EXPECT_EQ(layout.add("d", {17}), 3);
  EXPECT_EQ(layout.at("a").offset, 0);
  EXPECT_EQ(layout.at("b").offset, 16);
  EXPECT_EQ(layout.at("c").offset, 32);
  EXPECT_EQ(layout.at("d").offset, 48);
  EXPECT_EQ(layout.size(), 80);
  EXPECT_EQ(layout.find("e"), -1);
  EXPECT_THROW(layout.add("b", {1}), std::logic_error);
  EXPECT_THROW(layout.at("e"), std::logic_error);
}

TEST(Pack, ReusesWhatIsNoLongerAlive) {
  const Packing chain = pack({{100, 0, 1}, {100, 1, 2}, {100, 2, 3}, {100, 3, 4}});
  EXPECT_EQ(chain.bytes, 256);  // two of 128 take turns
  EXPECT_EQ(pack({}).bytes, 0);
  EXPECT_EQ(pack({{64, 0, 0}, {64, 1, 1}}).bytes, 64);
  EXPECT_EQ(pack({{64, 0, 1}, {64, 1, 1}}).bytes, 128);  // both ends included
}

TEST(Pack, LivingBuffersNeverShareBytes) {
  Stream stream(11);
  for (int round = 0; round < 200; ++round) {
    std::vector<Lifetime> buffers;
    for (i64 n = stream.below(40); n >= 0; --n) {
      const i64 first = stream.below(20);
      buffers.push_back({stream.below(1000), first, first + stream.below(8)});
    }
    const Packing packing = pack(buffers);
    ASSERT_EQ(packing.offsets.size(), buffers.size());
    i64 sum = 0;
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      const Lifetime& a = buffers[i];
      sum += (a.bytes + 63) / 64 * 64;
      EXPECT_EQ(packing.offsets[i] % 64, 0);
      EXPECT_GE(packing.offsets[i], 0);
      EXPECT_LE(packing.offsets[i] + a.bytes, packing.bytes);
      for (std::size_t j = 0; j < i; ++j) {
        const Lifetime& b = buffers[j];
        if (a.last < b.first || b.last < a.first) continue;
        EXPECT_TRUE(packing.offsets[i] + a.bytes <= packing.offsets[j] ||
                    packing.offsets[j] + b.bytes <= packing.offsets[i])
            << "buffers " << i << " and " << j;
      }
    }
    EXPECT_LE(packing.bytes, sum);
  }
}

TEST(Halves, EveryValueOfATypeComesBack) {
  for (const DType type : {DType::bf16, DType::f16}) {
    for (u32 bits = 0; bits < 65536; ++bits) {
      const u16 half = static_cast<u16>(bits);
      const double value = to_doubles(type, &half, 1)[0];
      const std::vector<char> back = from_doubles(type, {value});
      u16 again = 0;
      std::memcpy(&again, back.data(), 2);
      if (std::isnan(value))
        ASSERT_TRUE(std::isnan(to_doubles(type, &again, 1)[0])) << bits;
      else
        ASSERT_EQ(again, half) << name_of(type) << " " << value;
    }
  }
}

TEST(Halves, TiesGoToEven) {
  const auto rounded = [](DType type, double x) {
    return to_doubles(type, from_doubles(type, {x}).data(), 1)[0];
  };
  EXPECT_EQ(rounded(DType::f16, 2049), 2048);
  EXPECT_EQ(rounded(DType::f16, 2051), 2052);
  EXPECT_EQ(rounded(DType::f16, 65519), 65504);
  EXPECT_TRUE(std::isinf(rounded(DType::f16, -65520)));
  EXPECT_EQ(rounded(DType::f16, 1e-9), 0);
  EXPECT_EQ(rounded(DType::bf16, 257), 256);
  EXPECT_EQ(rounded(DType::bf16, 259), 260);
}

}  // namespace
}  // namespace cohort
