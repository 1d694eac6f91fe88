// What a shard set keeps for serving: raw rows, and the names of one-hot elements.
#include "data/samples.h"

#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/hash.h"
#include "data/shard_command.h"
#include "data/shard_set.h"
#include "fields/base64.h"
#include "fields/image.h"
#include "store/files.h"

namespace cohort {
namespace {

using nlohmann::json;

class SamplesOfSet : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "samples_" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    real_files().remove(folder_);
    real_files().make_folder(folder_);
  }
  void write(const std::string& name, const std::string& text) {
    write_atomically(real_files(), folder_ + "/" + name, text);
  }
  std::shared_ptr<ShardSet> make(const std::string& recipe) {
    write("r.yaml", "root: " + folder_ + "\noutput: " + folder_ + "/set\n" + recipe);
    shard(folder_ + "/r.yaml", {});
    return ShardSet::open(folder_ + "/set");
  }
  std::string folder_;
};

constexpr const char* kFields =
    "fields: [{name: x, kind: number, columns: [x], one_hot: [who]}, {name: y, kind: label}]\n";

TEST_F(SamplesOfSet, TheSmallestHashesOfTheHeldOutSplit) {
  std::string text = "x,who,unread,y\n";
  for (int i = 0; i < 1000; ++i) text += fmt::format("{},w{},u,{}\n", i, i % 3, i % 2);
  write("a.csv", text);
  for (const bool tested : {true, false}) {
    const auto set = make(std::string("sources: [{path: a.csv}]\nseed: 5\nhold_out: [{to: ") +
                          (tested ? "test" : "validation") + ", fraction: 0.5}]\n" + kFields);
    const std::string split = tested ? "test" : "validation";
    std::set<std::pair<u64, i64>> expected;
    for (const Block& block : set->blocks(split)) {
      for (const i64 id : set->row_ids(block)) {
        const u64 key[2] = {5, static_cast<u64>(id)};
        expected.emplace(hash_bytes(key, sizeof key), id);
      }
    }
    ASSERT_GT(expected.size(), 300u);
    const auto samples = set->samples();
    ASSERT_EQ(samples.size(), 256u);
    auto at = expected.begin();
    for (const SampleRow& sample : samples) {
      EXPECT_EQ(sample.row, (at++)->second);
      EXPECT_EQ(sample.split, split);
      EXPECT_EQ(json::parse(sample.columns),
                (json{{"x", std::to_string(sample.row)}, {"who", fmt::format("w{}", sample.row % 3)},
                      {"y", std::to_string(sample.row % 2)}}));
    }
  }
}

TEST_F(SamplesOfSet, RowsOfTrainingOnlyWhereThereAreNoOthers) {
  for (const char* name : {"a", "b", "c"})
    write(std::string(name) + ".csv", std::string("x,who,y\n1,") + name + ",0\n2,b,1\n");
  const auto splits = [&](const std::string& one, const std::string& other) {
    const auto set = make("sources: [{path: a.csv}, {path: b.csv, split: " + one +
                          "}, {path: c.csv, split: " + other + "}]\n" + kFields);
    std::set<std::string> found;
    for (const SampleRow& sample : set->samples()) found.insert(sample.split);
    return found;
  };
  EXPECT_THAT(splits("train", "train"), testing::ElementsAre("train"));
  EXPECT_THAT(splits("train", "holdout"), testing::ElementsAre("holdout"));
  EXPECT_THAT(splits("holdout", "dev"), testing::ElementsAre("dev"));
  EXPECT_THAT(splits("dev", "validation"), testing::ElementsAre("validation"));
}

TEST_F(SamplesOfSet, SameRowsSameBytesAndVerifyReadsThem) {
  write("a.csv", "x,who,y\n1,\xc3\xa9,0\n2,b,1\n");
  const auto set = make(std::string("sources: [{path: a.csv}]\n") + kFields);
  EXPECT_EQ(set->field("x").one_hot.at(0).column, "who");
  EXPECT_EQ(set->field("x").one_hot[0].names, (std::vector<std::string>{"b", "\xc3\xa9"}));
  const std::string path = folder_ + "/set/samples.jsonl", good = real_files().read(path);
  const std::string manifest = real_files().read(folder_ + "/set/manifest.json");
  EXPECT_EQ(set->samples().size(), 2u);
  EXPECT_TRUE(set->verify().empty());
  shard(folder_ + "/r.yaml", {});
  EXPECT_EQ(real_files().read(path), good);
  EXPECT_EQ(real_files().read(folder_ + "/set/manifest.json"), manifest);
  std::string bad = good;
  bad[20] = static_cast<char>(bad[20] ^ 1);
  std::ofstream(path, std::ios::binary) << bad;
  const auto altered = ShardSet::open(folder_ + "/set");
  EXPECT_THAT(altered->verify(), testing::Contains(testing::HasSubstr("samples.jsonl")));
  EXPECT_THROW(altered->samples(), Error);
}

// As sets were made before: opened, with nothing kept.
TEST_F(SamplesOfSet, SetsWithoutThemAreRead) {
  write("a.csv", "x,who,y\n1,a,0\n2,b,1\n");
  make(std::string("sources: [{path: a.csv}]\n") + kFields);
  const std::string path = folder_ + "/set/manifest.json";
  json manifest = json::parse(real_files().read(path));
  manifest["files"].erase(std::remove_if(manifest["files"].begin(), manifest["files"].end(),
                                         [](const json& f) { return f["name"] == "samples.jsonl"; }),
                          manifest["files"].end());
  for (json& field : manifest["fields"]) field.erase("one_hot");
  manifest.erase("manifest_checksum");
  manifest["manifest_checksum"] = to_hex(hash_text(manifest.dump()));
  real_files().remove(folder_ + "/set/samples.jsonl");
  write("set/manifest.json", manifest.dump(1) + "\n");
  const auto set = ShardSet::open(folder_ + "/set");
  EXPECT_TRUE(set->verify().empty());
  EXPECT_TRUE(set->samples().empty());
  EXPECT_TRUE(set->field("x").one_hot.empty());
}

TEST_F(SamplesOfSet, PicturesAreTheirFiles) {
  real_files().make_folder(folder_ + "/tree/a");
  const std::string file = encode_png({2, 2, 3, "abcdefghijkl"});
  write("tree/a/1.png", file);
  const auto set = make("sources: [{path: tree, format: image_folder, size: [4, 4], resize: true}]\n"
                        "fields: [{name: picture, kind: image}, {name: label, kind: label}]\n");
  EXPECT_EQ(json::parse(set->samples().at(0).columns),
            (json{{"picture", to_base64(file)}, {"label", "a"}}));
}

TEST_F(SamplesOfSet, FieldsOfOneColumnWithOtherWordsHaveAVocabularyEach) {
  write("a.csv", "w,y\nb a,0\nc a,1\nd a,0\n");
  const auto set = make("sources: [{path: a.csv}]\nfields:\n  - {name: ids, kind: ids, column: w}\n"
                        "  - {name: tokens, kind: tokens, column: w}\n"
                        "  - {name: same, kind: ids, column: w}\n");
  ASSERT_EQ(set->vocabularies().size(), 2u);
  EXPECT_EQ(set->field("ids").vocabulary, "w");
  EXPECT_EQ(set->field("same").vocabulary, "w");
  EXPECT_EQ(set->field("tokens").vocabulary, "tokens");
  EXPECT_EQ(set->vocabularies()[1].entries, (std::vector<std::string>{"<unk>", "a", "b", "c", "d"}));
}

}  // namespace
}  // namespace cohort
