#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "base/error.h"
#include "data/shard_command.h"
#include "data/shard_set.h"
#include "store/files.h"

namespace cohort {
namespace {

std::string prepare(const std::string& name, const std::string& csv) {
  const std::string folder = testing::TempDir() + "shard_" + name;
  real_files().remove(folder);
  real_files().make_folder(folder);
  write_atomically(real_files(), folder + "/a.csv", csv);
  write_atomically(real_files(), folder + "/r.yaml",
                   "root: " + folder + "\noutput: " + folder +
                       "/set\norder: keep\nrows_per_block: 2\nrows_per_shard: 2\n"
                       "sources: [{path: a.csv}]\nfields:\n"
                       "  - {name: seq, kind: numbers}\n  - {name: y, kind: label, classes: 3}\n");
  return folder;
}

TEST(ShardRoundTrip, ValuesComeBackAndBytesRepeat) {
  const std::string folder = prepare("round", "seq,y\n1 2.5,0\n\"\",2\n3,1\n");
  shard(folder + "/r.yaml", {});
  const std::string first = real_files().read(folder + "/set/train-00000.h5");
  auto set = ShardSet::open(folder + "/set");
  EXPECT_TRUE(set->verify().empty());
  ASSERT_EQ(set->rows("train"), 3);
  const auto blocks = set->blocks("train");
  ASSERT_EQ(blocks.size(), 2u);
  const Column column = set->read(blocks[0], 0);
  EXPECT_EQ(column.starts, (std::vector<i64>{0, 2, 2}));
  float values[2];
  ASSERT_EQ(column.values.size(), sizeof values);
  std::memcpy(values, column.values.data(), sizeof values);
  EXPECT_EQ(values[1], 2.5F);
  EXPECT_EQ(set->row_ids(blocks[1]), (std::vector<i64>{2}));
  shard(folder + "/r.yaml", {});
  EXPECT_EQ(first, real_files().read(folder + "/set/train-00000.h5"));
}

TEST(ShardRoundTrip, BadRowsAreNamed) {
  const std::string folder = prepare("bad", "seq,y\n1,0\nx,1\n1,3\n1\n");
  try {
    shard(folder + "/r.yaml", {});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), Exit::data);
  }
  const std::string rejects = real_files().read(folder + "/set.rejects.tsv");
  for (const char* place : {"a.csv:3\t", "a.csv:4\t", "a.csv:5\t"}) {
    EXPECT_NE(rejects.find(place), std::string::npos) << rejects;
  }
}

TEST(ShardRoundTrip, EveryFlippedByteIsAnErrorOrHarmless) {
  const std::string folder = prepare("flip", "seq,y\n1 2.5,0\n4,2\n3,1\n");
  shard(folder + "/r.yaml", {});
  const std::string path = folder + "/set/train-00000.h5", good = real_files().read(path);
  for (std::size_t at = 0; at < good.size(); at += 37) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    std::ofstream(path, std::ios::binary) << bad;
    try {
      const auto problems = ShardSet::open(folder + "/set")->verify();
      ASSERT_FALSE(problems.empty()) << at;
      EXPECT_NE(problems[0].find("train-00000.h5"), std::string::npos);
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), Exit::data) << at;
    }
  }
  std::ofstream(path, std::ios::binary) << good.substr(0, good.size() / 2);
  EXPECT_THROW(ShardSet::open(folder + "/set"), Error);
}

}  // namespace
}  // namespace cohort
