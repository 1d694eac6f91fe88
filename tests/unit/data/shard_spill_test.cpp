// The memory that sharding may use changes nothing in the set.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/hash.h"
#include "data/shard_command.h"
#include "data/shard_set.h"
#include "store/files.h"

namespace cohort {
namespace {

struct Case {
  std::string name, recipe;
  std::string facts;  // XXH64 of the manifest's facts: row order, statistics, every file's checksum
};

const std::vector<Case> cases{
    {"plain",
     "sources: [{path: a.csv}, {path: b.csv, split: test}]\n"
     "hold_out: [{fraction: 0.2, by: user}]\nmax_bad_fraction: 0.1\n"
     "joins: [{on: user, key: user_id, table: {path: users.csv}}]\n"
     "fields:\n"
     "  - {name: user, kind: id}\n"
     "  - {name: x, kind: number, columns: [num, age], one_hot: [what], offset: -1, scale: 0.3}\n"
     "  - {name: text, kind: tokens, min_count: 2}\n"
     "  - {name: series, kind: numbers, column: num, log1p: true}\n",
     "9536f30e7a5f29bd"},
    {"kept",
     "order: keep\nsources: [{path: a.csv}]\nmax_bad_fraction: 0.1\n"
     "fields: [{name: what, kind: label, over: train}, {name: num}]\n",
     "108db2b45285f413"},
    {"grouped",
     "sources: [{path: a.csv}, {path: b.csv, split: test}]\nmax_bad_fraction: 0.6\n"
     "hold_out: [{fraction: 0.3}]\n"
     "group: {key: user, time: time, columns: [what, num], min_length: 2}\n"
     "fields:\n  - {name: history, kind: ids, column: what, part: history}\n"
     "  - {name: deltas, kind: numbers}\n  - {name: num, kind: numbers}\n",
     "c1c1cbbca63135dd"},
    {"aggregated",
     "sources: [{path: a.csv}]\nmax_bad_fraction: 0.1\n"
     "aggregate: {user: user, time: time, period: 20, history: 3, validation: 0.2, test: 0.2}\n"
     "fields: [{name: events, kind: numbers}, {name: target}]\n",
     "118736ff4901de01"},
};

// Some numbers and times are bad.
std::string events(i64 rows, i64 step) {
  std::string text = "user,time,what,num,text\n";
  for (i64 i = 0; i < rows; ++i) {
    const std::string number = std::to_string(i * step % 53);
    text += "u" + std::to_string(i * i % 31) + "," +
            (i % 97 == 13 ? "soon" : std::to_string(i * step % 211 - 20)) + "," +
            "abcde"[i * step % 5] + "," + (i % 61 == 7 ? "x" : number + ".25") + ",\"word" +
            std::to_string(i % 19) + " and\nword" + number + "\"\n";
  }
  return text;
}

std::string prepare(const Case& c) {
  const std::string folder = testing::TempDir() + "spill_" + c.name;
  Files& files = real_files();
  files.remove(folder);
  files.make_folder(folder);
  write_atomically(files, folder + "/a.csv", events(700, 17));
  write_atomically(files, folder + "/b.csv", events(90, 29));
  std::string users = "user_id,age\n";
  for (i64 u = 0; u < 29; ++u) {
    users += "u" + std::to_string(u) + "," + std::to_string(u * 3) + "\n";
  }
  write_atomically(files, folder + "/users.csv", users);
  write_atomically(files, folder + "/r.yaml",
                   "root: " + folder + "\noutput: " + folder +
                       "/set\nrows_per_block: 8\nrows_per_shard: 64\n" + c.recipe);
  return folder;
}

// The pinned sums are of the rows alone: samples_test.cpp looks at the rest.
void forget_what_serving_needs(nlohmann::json& facts) {
  for (auto& field : facts["fields"]) field.erase("one_hot");
  auto& files = facts["files"];
  ASSERT_EQ(files.back()["name"], "samples.jsonl");
  files.erase(files.size() - 1);
}

TEST(ShardSpill, SameSetWhateverTheMemory) {
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const std::string folder = prepare(c);
    const auto manifest = [&] { return real_files().read(folder + "/set/manifest.json"); };
    const ShardReport whole = shard(folder + "/r.yaml", {});
    EXPECT_GT(whole.rejected, 0);
    const std::string first = manifest();
    for (i64 memory : {8000, 100000}) {
      const ShardReport spilled = shard(folder + "/r.yaml", {}, memory);
      EXPECT_EQ(spilled.rows, whole.rows);
      EXPECT_EQ(spilled.rejected, whole.rejected);
      EXPECT_EQ(manifest(), first) << memory;
    }
    EXPECT_TRUE(ShardSet::open(folder + "/set")->verify().empty());
    nlohmann::json facts = nlohmann::json::parse(first);
    for (const char* key : {"recipe", "sources", "manifest_checksum"}) facts.erase(key);
    forget_what_serving_needs(facts);
    EXPECT_EQ(to_hex(hash_text(facts.dump())), c.facts);
    EXPECT_EQ(real_files().list(folder).size(), 6u);  // sources, recipe, set, rejects
  }
}

}  // namespace
}  // namespace cohort
