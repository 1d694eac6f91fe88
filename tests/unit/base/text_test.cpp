#include "base/text.h"

#include <gmock/gmock.h>

#include <cmath>

#include "base/env.h"
#include "base/hash.h"

namespace cohort {
namespace {

using testing::ElementsAre;

TEST(Parse, WholeIntegersOnly) {
  EXPECT_EQ(parse_i64("-17"), -17);
  EXPECT_EQ(parse_i64("9223372036854775807"), INT64_MAX);
  for (const char* bad : {"", "1x", " 1", "1 ", "9223372036854775808", "1.0", "+-1", "-", "+"})
    EXPECT_FALSE(parse_i64(bad)) << bad;
}

TEST(Parse, WholeNumbersOnly) {
  EXPECT_EQ(parse_double("1e-3"), 1e-3);
  EXPECT_TRUE(std::isinf(*parse_double("inf")));
  EXPECT_TRUE(std::isnan(*parse_double("nan")));
  for (const char* bad : {"", "1e", "0x10", "1,5", "1 "}) EXPECT_FALSE(parse_double(bad)) << bad;
}

TEST(Split, KeepsEmptyParts) {
  EXPECT_THAT(split("a,,b,", ','), ElementsAre("a", "", "b", ""));
  EXPECT_THAT(split("", ','), ElementsAre(""));
  EXPECT_EQ(join({"a", "", "b"}, "--"), "a----b");
  EXPECT_EQ(join({}, ","), "");
  EXPECT_EQ(trim(" \t a b \r\n"), "a b");
  EXPECT_EQ(trim(" \n "), "");
}

TEST(Nearest, FindsTyposAndRefusesStrangers) {
  const std::vector<std::string> keys = {"learning_rate", "epochs", "seed"};
  EXPECT_EQ(nearest("lerning_rate", keys), "learning_rate");
  EXPECT_EQ(nearest("epcohs", keys), "epochs");  // a swap is one edit
  EXPECT_EQ(nearest("sed", keys), "seed");
  EXPECT_EQ(nearest("momentum", keys), "");
  EXPECT_EQ(nearest("x", {}), "");
  EXPECT_EQ(nearest(std::string(100000, 'a'), keys), "");
}

TEST(Human, UnitsChangeAtTheirEdges) {
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1536 * 1024), "1.50 MiB");
  EXPECT_EQ(human_count(1230000), "1.23 M");
  EXPECT_EQ(human_count(12), "12");
  EXPECT_EQ(human_seconds(3.4), "3.4 s");
  EXPECT_EQ(human_seconds(3720), "1 h 02 m");
}

TEST(Clock, UtcHasTheDocumentedForm) {
  EXPECT_THAT(utc_now(), testing::MatchesRegex("....-..-..T..:..:..\\....Z"));
  const double a = seconds_now();
  EXPECT_LE(a, seconds_now());
}

TEST(Hash, KnownAnswersAndIncrement) {
  EXPECT_EQ(hash_text(""), 0xef46db3751d8e999ull);
  EXPECT_EQ(hash_text("abc"), 0x44bc2cf5ad770999ull);
  EXPECT_EQ(to_hex(0x1f), "000000000000001f");
  EXPECT_EQ(from_hex("44bc2cf5ad770999"), hash_text("abc"));
  for (const char* bad : {"", "1f", "000000000000001g", "0000000000000001f"})
    EXPECT_THROW(from_hex(bad), std::invalid_argument) << bad;
  Hasher parts;
  parts.add("a", 1);
  parts.add(nullptr, 0);
  parts.add("bc", 2);
  EXPECT_EQ(parts.value(), hash_text("abc"));
}

TEST(Env, RefusesNamesOutsideTheContract) {
  EXPECT_THROW(env("PATH"), std::logic_error);
  EXPECT_FALSE(env("COHORT_A_NAME_THAT_NOBODY_SETS"));
  EXPECT_FALSE(host_name().empty());
  EXPECT_GE(usable_cores(), 1);
}

}  // namespace
}  // namespace cohort
