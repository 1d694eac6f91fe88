// Copies of shard sets: made once, verified, bounded, never one in use.
#include "data/stage.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/hash.h"
#include "store/files.h"
#include "store/folder.h"

#include <nlohmann/json.hpp>

namespace cohort {
namespace {

namespace fs = std::filesystem;

struct Case {
  std::string folder;
  std::string disk() const { return folder + "/disk"; }
};

Case prepare(const std::string& name) {
  Case c{testing::TempDir() + "stage_" + name};
  real_files().remove(c.folder);
  real_files().make_folder(c.folder);
  return c;
}

// A finished folder with one file of `bytes`: all that copying looks at.
std::string make_set(const Case& c, const std::string& name, i64 bytes) {
  const std::string path = c.folder + "/" + name;
  FolderWriter writer(real_files(), path);
  const std::string text(static_cast<std::size_t>(bytes), name[0]);
  writer.write("train-00000.h5", [&](FileWriter& f) { f.write(text.data(), bytes); });
  writer.commit({{"name", name}});
  return path;
}

void flip(const std::string& path, i64 at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(at);
  file.put('!');
}

TEST(Stage, CopiedOnceThenUsedAgain) {
  const Case c = prepare("once");
  const std::string set = make_set(c, "a", 5000);
  const Staged first = stage_shards(set, c.disk(), 0);
  EXPECT_TRUE(first.copied);
  ASSERT_TRUE(first.lock);
  EXPECT_EQ(real_files().read(first.path + "/train-00000.h5"),
            real_files().read(set + "/train-00000.h5"));
  const Staged second = stage_shards(set, c.disk(), 0);   // while the first is in use
  EXPECT_FALSE(second.copied);
  EXPECT_EQ(second.path, first.path);
}

TEST(Stage, ADamagedCopyIsMadeAgain) {
  const Case c = prepare("damaged");
  const std::string set = make_set(c, "a", 5000);
  const std::string copy = stage_shards(set, c.disk(), 0).path;
  for (const char* file : {"/train-00000.h5", "/manifest.json"}) {
    flip(copy + file, 20);
    const Staged again = stage_shards(set, c.disk(), 0);
    EXPECT_TRUE(again.copied) << file;
    EXPECT_EQ(real_files().read(copy + file), real_files().read(set + file));
  }
}

TEST(Stage, ADamagedOriginalIsRefused) {
  const Case c = prepare("original");
  const std::string set = make_set(c, "a", 5000);
  flip(set + "/train-00000.h5", 4000);
  try {
    stage_shards(set, c.disk(), 0);
    FAIL() << "copied";
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), Exit::data);
    EXPECT_NE(std::string(e.what()).find("train-00000.h5: expected 5000 bytes"), std::string::npos)
        << e.what();
  }
  for (const auto& entry : fs::directory_iterator(c.disk()))
    EXPECT_FALSE(entry.is_directory()) << entry.path();
}

TEST(Stage, TheLeastRecentlyUsedGoesButNoneInUseAndNothingForeign) {
  const Case c = prepare("bound");
  const std::string a = make_set(c, "a", 5000), b = make_set(c, "b", 5000), d = make_set(c, "d", 5000);
  real_files().make_folder(c.disk() + "/foreign");
  real_files().make_folder(c.disk() + "/cohort-notes");
  const std::string of_a = stage_shards(a, c.disk(), 12000).path;   // room for two
  const std::string of_b = stage_shards(b, c.disk(), 12000).path;
  for (const std::string& copy : {of_a, of_b}) {                    // a clock may tick slowly
    fs::last_write_time(copy + ".lock", fs::file_time_type::clock::now() - std::chrono::hours(1));
  }
  EXPECT_FALSE(stage_shards(a, c.disk(), 12000).copied);            // now b is the older one
  const Staged third = stage_shards(d, c.disk(), 12000);
  EXPECT_TRUE(third.copied);
  EXPECT_TRUE(fs::exists(of_a));
  EXPECT_FALSE(fs::exists(of_b));
  const Staged held = stage_shards(a, c.disk(), 12000);             // both in use now
  const Staged none = stage_shards(b, c.disk(), 12000);
  EXPECT_EQ(none.path, b);
  EXPECT_FALSE(none.lock);
  EXPECT_TRUE(fs::exists(of_a) && fs::exists(third.path));
  EXPECT_TRUE(fs::exists(c.disk() + "/foreign") && fs::exists(c.disk() + "/cohort-notes"));
}

TEST(Stage, WhatCannotFitIsReadInPlace) {
  const Case c = prepare("small");
  const std::string set = make_set(c, "a", 5000);
  EXPECT_EQ(stage_shards(set, c.disk(), 4000).path, set);
  std::ofstream(c.folder + "/file") << "x";
  EXPECT_EQ(stage_shards(set, c.folder + "/file/disk", 0).path, set);
}

TEST(Stage, AnUnfinishedCopyIsReplaced) {
  const Case c = prepare("part");
  const std::string set = make_set(c, "a", 5000);
  const std::string copy = stage_shards(set, c.disk(), 0).path;
  real_files().rename(copy, copy + ".part");
  std::ofstream(copy + ".part/train-00000.h5") << "half";
  EXPECT_TRUE(stage_shards(set, c.disk(), 0).copied);
  EXPECT_FALSE(fs::exists(copy + ".part"));
  EXPECT_EQ(real_files().size(copy + "/train-00000.h5"), 5000);
}

}  // namespace
}  // namespace cohort
