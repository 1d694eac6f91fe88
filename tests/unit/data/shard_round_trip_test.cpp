#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/recipe.h"
#include "data/shard_command.h"
#include "data/shard_set.h"
#include "data/shard_writer.h"
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

TEST(ShardRoundTrip, KeysWithoutMeaningAreErrorsWithTheirPlace) {
  const std::string folder = prepare("keys", "seq,y\n1,0\n");
  for (const char* key : {"fields.0.words=space", "fields.1.width=2", "sources.0.resize=true",
                          "fields.0.dense=false"}) {
    try {
      shard(folder + "/r.yaml", {key});
      ADD_FAILURE() << "accepted " << key;
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), Exit::usage) << key;
    }
  }
}

// The manifest holds the recipe as it was understood: sharding by that gives the same set.
TEST(ShardRoundTrip, ResolvedRecipeGivesTheSameSet) {
  const std::string folder = prepare("resolved", "seq,y\n1 2.5,0\n4,2\n3,1\n");
  const auto recipe_of = [&] {
    return nlohmann::json::parse(real_files().read(folder + "/set/manifest.json"))
        .at("recipe").get<std::string>();
  };
  shard(folder + "/r.yaml", {"sources.0.label=x", "hold_out=[{by: label}]", "seed=9"});
  const std::string manifest = real_files().read(folder + "/set/manifest.json");
  write_atomically(real_files(), folder + "/again.yaml", recipe_of());
  shard(folder + "/again.yaml", {});
  EXPECT_EQ(real_files().read(folder + "/set/manifest.json"), manifest) << recipe_of();
}

TEST(ShardRoundTrip, EveryRecipeReadsBackAsWritten) {
  i64 recipes = 0;
  const std::string folder = std::string(COHORT_SOURCE_DIR) + "/shards/";
  for (const std::string& name : real_files().list(folder)) {
    if (!name.ends_with(".yaml")) continue;
    Recipe recipe, back;
    Binder::read(Document::load(folder + name), recipe);
    const std::string text = Binder::write(recipe);
    ASSERT_NO_THROW(Binder::read(Document::parse(text, name), back)) << text;
    EXPECT_EQ(Binder::write(back), text);
    ++recipes;
  }
  EXPECT_GT(recipes, 8);
}

// What other writers may get wrong.
TEST(ShardRoundTrip, RowIdsThatComeTwiceAreFound) {
  const std::string path = testing::TempDir() + "shard_twice";
  ShardWriter writer({path, 4, 1, true, ""});
  ShardRows rows;
  rows.row_ids = {3, 1};
  writer.write("train", rows);
  rows.row_ids = {1};
  writer.write("test", rows);
  writer.commit({}, {}, nlohmann::json::array());
  const auto problems = ShardSet::open(path)->verify();
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0], path + "/test-00000.h5: expected unique row ids, got row id 1 twice: "
                                "shard the data again");
}

TEST(ShardRoundTrip, IdsOf64BitsAreRefused) {
  const std::string path = testing::TempDir() + "shard_wide_ids";
  ShardWriter writer({path, 4, 1, true, ""});
  ShardRows rows;
  rows.row_ids = {0};
  rows.fields.push_back({{"id", DType::i64, {}, false, 9, "", {}}, std::vector<u8>(8), {}});
  writer.write("train", rows);
  writer.commit({rows.fields[0].field}, {}, nlohmann::json::array());
  try {
    ShardSet::open(path);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), Exit::data);
    EXPECT_EQ(std::string(error.what()), path + "/manifest.json: field 'id': expected ids of type "
                                                "int32, got int64: shard the data again");
  }
}

TEST(ShardRoundTrip, ParquetIsRefusedWithTheWayOut) {
  const std::string folder = prepare("parquet", "seq,y\n1,0\n");
  try {
    shard(folder + "/r.yaml", {"sources.0.path=a.parquet"});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("to_csv"), std::string::npos) << error.what();
  }
}

TEST(ShardRoundTrip, H5pyReadsTheSameValues) {
  const char* python = std::getenv("COHORT_TEST_PYTHON");
  if (python == nullptr || *python == 0) GTEST_SKIP() << "COHORT_TEST_PYTHON is not set";
  const std::string run = std::string(python) + " -c ";
  if (std::system((run + "'import h5py' 2> /dev/null").c_str()) != 0) {
    GTEST_SKIP() << python << " has no h5py";
  }
  const std::string folder = prepare("h5py", "seq,y\n1 2.5,0\n\"\",2\n3,1\n");
  shard(folder + "/r.yaml", {"rows_per_shard=4"});
  const std::string script =
      "\"import h5py; f = h5py.File('" + folder + "/set/train-00000.h5'); g = f['fields/seq']\n"
      "rows = [list(g['values'][o:o+n].ravel()) for o, n in zip(g['offsets'], g['lengths'])]\n"
      "assert rows == [[1, 2.5], [], [3]], rows\n"
      "assert f['row_id'][:].tolist() == [0, 1, 2]\n"
      "assert f['fields/y'][:].ravel().tolist() == [0, 2, 1]\"";
  EXPECT_EQ(std::system((run + script).c_str()), 0) << script;
}

}  // namespace
}  // namespace cohort
