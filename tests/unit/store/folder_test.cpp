#include "store/folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"

namespace cohort {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class FolderTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    root_ = testing::TempDir() + "/cohort-folder-" + info->name() + "-" + std::to_string(getpid());
    fs::remove_all(root_);
    path_ = root_ + "/set";
  }
  void TearDown() override { fs::remove_all(root_); }

  void write(const std::string& text, const std::function<bool()>& allow = {}) {
    FolderWriter writer(real_files(), path_);
    for (const char* name : {"a.bin", "b.bin"}) {
      writer.write(name, [&](FileWriter& out) {
        out.write(text.data(), static_cast<i64>(text.size()));
        out.write("!", 1);
      });
    }
    writer.commit({{"format", "test"}}, allow);
  }
  // What opening says; empty where it works.
  std::string problem(bool deep) {
    try {
      open_folder(real_files(), path_, deep, static_cast<int>(Exit::storage));
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), Exit::storage);
      return error.what();
    }
    return "";
  }
  std::string bytes(const std::string& name) const {
    std::ifstream file(path_ + "/" + name, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  void replace(const std::string& name, const std::string& text) const {
    std::ofstream(path_ + "/" + name, std::ios::binary | std::ios::trunc) << text;
  }
  std::size_t entries() const {
    std::size_t n = 0;
    for ([[maybe_unused]] const auto& entry : fs::directory_iterator(root_)) ++n;
    return n;
  }

  std::string root_, path_;
};

TEST_F(FolderTest, WhatIsWrittenOpens) {
  write("hello");
  const auto manifest = open_folder(real_files(), path_, true, static_cast<int>(Exit::data));
  EXPECT_EQ(manifest.at("format"), "test");
  ASSERT_EQ(manifest.at("files").size(), 2u);
  EXPECT_EQ(manifest.at("files")[0].at("name"), "a.bin");
  EXPECT_EQ(manifest.at("files")[0].at("bytes"), 6);
  EXPECT_EQ(bytes("b.bin"), "hello!");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(FolderTest, AlteredBytesAreFoundByTheDeepCheck) {
  write("hello");
  replace("b.bin", "hellp!");
  EXPECT_EQ(problem(false), "");
  EXPECT_THAT(problem(true), testing::AllOf(HasSubstr("b.bin"), HasSubstr("checksum")));
}

TEST_F(FolderTest, CutAndMissingFilesAreFound) {
  write("hello");
  replace("a.bin", "hello");
  EXPECT_THAT(problem(false), testing::AllOf(HasSubstr("a.bin"), HasSubstr("6"), HasSubstr("5")));
  fs::remove(path_ + "/a.bin");
  EXPECT_THAT(problem(false), testing::AllOf(HasSubstr("a.bin"), HasSubstr("missing")));
}

TEST_F(FolderTest, EveryCutAndEveryFlipOfTheManifestIsFound) {
  write("hello");
  const std::string text = bytes("manifest.json");
  for (std::size_t n = 0; n < text.size(); ++n) {
    replace("manifest.json", text.substr(0, n));
    EXPECT_THAT(problem(true), HasSubstr("manifest.json")) << "cut to " << n;
    std::string flipped = text;
    flipped[n] = static_cast<char>(flipped[n] ^ 1);
    replace("manifest.json", flipped);
    EXPECT_NE(problem(true), "") << "byte " << n;
  }
  replace("manifest.json", text);
  EXPECT_EQ(problem(true), "");
}

TEST_F(FolderTest, AnAbandonedWriterLeavesTheOldFolder) {
  write("old");
  EXPECT_THROW(write("new", [] { return false; }), Error);
  EXPECT_EQ(bytes("a.bin"), "old!");
  EXPECT_EQ(problem(true), "");
  { FolderWriter writer(real_files(), path_); }
  EXPECT_EQ(entries(), 1u);
  write("new");
  EXPECT_EQ(bytes("a.bin"), "new!");
  EXPECT_EQ(problem(true), "");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(FolderTest, NoFolderIsAnErrorThatNamesIt) {
  EXPECT_THAT(problem(false), HasSubstr(path_));
}

}  // namespace
}  // namespace cohort
