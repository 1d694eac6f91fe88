#include "store/spill_sort.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/rng.h"
#include "store/files.h"

namespace cohort {
namespace {

using Records = std::vector<std::pair<std::string, std::string>>;

// Few different keys, some long and alike, with zero bytes; values tell the order of adding.
Records random_records(i64 count) {
  Stream stream(11);
  Records records;
  for (i64 i = 0; i < count; ++i) {
    std::string key(static_cast<std::size_t>(stream.below(3)) * 5, 'k');
    key.push_back(static_cast<char>(stream.below(3) * 127));
    key.append(static_cast<std::size_t>(stream.below(3)), '\0');
    records.emplace_back(key, std::to_string(i) + std::string(i % 17 == 0 ? 300 : 0, 'x'));
  }
  return records;
}

Records all_of(SpillSort& sort) {
  Records records;
  sort.each([&](std::string_view key, std::string_view value) { records.emplace_back(key, value); });
  return records;
}

TEST(SpillSort, StableOrderWhateverTheMemory) {
  const Records records = random_records(1000);
  Records expected = records;
  std::stable_sort(expected.begin(), expected.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  const std::string folder = testing::TempDir() + "spill_order";
  real_files().remove(folder);
  real_files().make_folder(folder);
  for (i64 memory : {1, 100, 1000, 20000, 1 << 20}) {
    SpillSort sort(folder + "/a", memory);
    for (const auto& [key, value] : records) sort.add(key, value);
    EXPECT_EQ(all_of(sort), expected) << memory;
    EXPECT_EQ(all_of(sort), expected) << memory << ", again";
    EXPECT_EQ(sort.spilled_bytes() > 0, memory < 50000) << memory;
    EXPECT_TRUE(real_files().list(folder).empty());  // the spill file has no name
  }
}

TEST(SpillSort, NothingAndOneRecordLargerThanMemory) {
  SpillSort none(testing::TempDir() + "spill_none", 100);
  EXPECT_TRUE(all_of(none).empty());
  SpillSort one(testing::TempDir() + "spill_one", 100);
  one.add("b", std::string(1 << 21, 'y'));
  one.add("a", "");
  EXPECT_EQ(all_of(one), (Records{{"a", ""}, {"b", std::string(1 << 21, 'y')}}));
}

TEST(SpillSort, NoFolderToSpillTo) {
  SpillSort sort(testing::TempDir() + "no/such/folder/a", 64);
  try {
    for (int i = 0; i < 100; ++i) sort.add("key", "value");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), Exit::storage);
    EXPECT_NE(std::string(error.what()).find("no/such/folder/a"), std::string::npos);
  }
}

TEST(SpillSort, PackedKeysAreInOrderOfValues) {
  const auto packed = [](auto value) {
    std::string key;
    pack_ordered(key, value);
    return key;
  };
  const std::vector<double> doubles{-INFINITY, -1e300, -2, -1, -1e-320, 0, 1e-320, 1, 2, INFINITY};
  for (std::size_t i = 1; i < doubles.size(); ++i) {
    EXPECT_LT(packed(doubles[i - 1]), packed(doubles[i]));
  }
  EXPECT_EQ(packed(-0.0), packed(0.0));
  const std::vector<u64> numbers{0, 1, 255, 256, 1u << 31, std::numeric_limits<u64>::max()};
  for (std::size_t i = 1; i < numbers.size(); ++i) {
    EXPECT_LT(packed(numbers[i - 1]), packed(numbers[i]));
  }
}

}  // namespace
}  // namespace cohort
