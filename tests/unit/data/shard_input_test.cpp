// Raw files as they come: each works, or gives one error that says what is wrong and where.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/shard_command.h"
#include "data/shard_set.h"
#include "store/files.h"

namespace cohort {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class ShardInput : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "shard_input_" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    fields_ = "[{name: a}, {name: b, kind: label}]";
  }
  void write(const std::string& text, const std::string& name = "a.csv") {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << text;
  }
  ShardReport run(std::vector<std::string> overrides = {}) {
    write("root: " + folder_ + "\noutput: " + folder_ +
              "/out/set\norder: keep\nsources: [{path: a.csv}]\nfields: " + fields_ + "\n",
          "r.yaml");
    return shard(folder_ + "/r.yaml", overrides);
  }
  // The first values of field a, and the names of field b.
  std::string result() {
    const auto set = ShardSet::open(folder_ + "/out/set");
    std::string text;
    for (const Block& block : set->blocks("train")) {
      const Column a = set->read(block, 0);
      for (std::size_t i = 0; i < a.values.size(); i += 4) {
        float value = 0;
        std::memcpy(&value, a.values.data() + i, 4);
        text += fmt::format("{} ", value);
      }
    }
    for (const Vocabulary& words : set->vocabularies()) {
      for (const std::string& word : words.entries) text += "[" + word + "]";
    }
    return text;
  }
  std::string error(Exit expected, const std::vector<std::string>& overrides = {}) {
    try {
      run(overrides);
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), expected) << error.what();
      EXPECT_FALSE(fs::exists(folder_ + "/out/set"));
      return error.what();
    }
    ADD_FAILURE() << "accepted";
    return "";
  }
  std::string folder_, fields_;
};

TEST_F(ShardInput, ByteOrderMarkLineEndsAndNoLastNewline) {
  for (const char* text : {"\xef\xbb\xbf" "a,b\n1,x\n2,y\n", "a,b\r\n1,x\r\n2,y\r\n", "a,b\n1,x\n2,y",
                           "\"a\",\"b\"\n1,\"x\"\n\n2,y\n", "\n\na,b\n1,x\n2,y\n\n"}) {
    write(text);
    run();
    EXPECT_EQ(result(), "1 2 [x][y]") << text;
  }
}

TEST_F(ShardInput, QuotedNewlinesAndDelimiters) {
  write("a,b\n1,\"x\ny\"\n2,\"u,\"\"v\"\"\"\n\"3\n\",z\n");
  run();
  EXPECT_EQ(result(), "1 2 3 [u,\"v\"][x\ny][z]");
}

TEST_F(ShardInput, NumbersThatDoNotFit) {
  write("a,b\n1e999,x\n1e39,x\nnan,x\n0x1F,x\n,x\n99999999999999999999,99999999999999999999\n-0,x\n");
  run({"max_bad_fraction=0.9"});
  EXPECT_EQ(result(), "1e+20 0 [99999999999999999999][x]");
  const std::string rejects = real_files().read(folder_ + "/out/set.rejects.tsv");
  for (const char* line : {"a.csv:2\tfield 'a': '1e999' is not a finite number\n",
                           "a.csv:3\tfield 'a': value is not a finite float\n",
                           "a.csv:4\tfield 'a': 'nan' is not", "a.csv:5\t", "a.csv:6\t"}) {
    EXPECT_THAT(rejects, HasSubstr(line));
  }
  fs::remove_all(folder_ + "/out");
  fields_ = "[{name: a, kind: id, classes: 100}]";
  write("a\n1\n99999999999999999999\n");
  EXPECT_THAT(error(Exit::data),
              HasSubstr("a.csv:3: field 'a': '99999999999999999999' is not in [0, 100)"));
}

TEST_F(ShardInput, RejectsOfAnEarlierRunAreGone) {
  write("a,b\n1,x\n2\n");
  run({"max_bad_fraction=0.5"});
  EXPECT_TRUE(fs::exists(folder_ + "/out/set.rejects.tsv"));
  write("a,b\n1,x\n2,x\n");
  run();
  EXPECT_FALSE(fs::exists(folder_ + "/out/set.rejects.tsv"));
}

TEST_F(ShardInput, BytesThatAreNotText) {
  write(std::string("a,b\n1,x\0y\n", 10));
  EXPECT_THAT(error(Exit::data), HasSubstr("a.csv:2: holds a zero byte"));
  write(std::string("a\0,\0b\0\n\0", 8));
  EXPECT_THAT(error(Exit::data), HasSubstr("a.csv:1: header: holds a zero byte"));
  write("a,b\n1,\xff\xfe\n");
  EXPECT_THAT(error(Exit::data), HasSubstr("a.csv:2: not UTF-8 (set encoding: latin1?)"));
  write("a,\xe9\n1,x\n");
  EXPECT_THAT(error(Exit::data), HasSubstr("a.csv:1: header: not UTF-8"));
}

TEST_F(ShardInput, FilesWithoutRows) {
  write("");
  EXPECT_THAT(error(Exit::data), HasSubstr("a.csv: expected a header that names the columns"));
  write("a,b\n");
  EXPECT_THAT(error(Exit::data), HasSubstr("r.yaml: the sources hold no rows"));
  EXPECT_THAT(error(Exit::data, {"sources.0.format=lines", "sources.0.path=r.yaml/x"}),
              HasSubstr("r.yaml/x"));
}

TEST_F(ShardInput, HeadersThatCannotBeUsed) {
  write("a,b,a\n1,x,2\n");
  EXPECT_THAT(error(Exit::data), HasSubstr("a.csv: two columns are named 'a': rename one"));
  write("a,b\n1,x\n");
  EXPECT_THAT(error(Exit::data, {"sources.0.label=q", "joins=[{on: b, key: a, table: {path: a.csv}}]"}),
              HasSubstr("two columns are named 'b'"));
  write("a,bb\n1,x\n");
  EXPECT_THAT(error(Exit::usage), HasSubstr("no column 'b': the sources have [a, bb]"));
  write("a,\"b\n1,x\n");
  EXPECT_THAT(error(Exit::data), HasSubstr("a.csv:1: header: a quoted cell is not closed"));
}

TEST_F(ShardInput, VeryLongLinesWork) {
  write("a,b\n1," + std::string(5 << 20, 'w') + "\n2,x\n");
  EXPECT_EQ(run().rows[0].second, 2);
}

TEST_F(ShardInput, LinksAreFollowedAndBrokenOnesNamed) {
  write("a,b\n1,x\n", "real.csv");
  fs::create_symlink("real.csv", folder_ + "/a.csv");
  run();
  EXPECT_EQ(result(), "1 [x]");
  fs::remove_all(folder_ + "/out");
  fs::remove(folder_ + "/a.csv");
  EXPECT_THAT(error(Exit::data), HasSubstr("a.csv: no such file"));
  fs::create_symlink("a.csv", folder_ + "/a.csv");
  EXPECT_THAT(error(Exit::storage), HasSubstr("a.csv: stat failed: "));
  fs::remove(folder_ + "/a.csv");
  fs::create_directories(folder_ + "/a.csv");
  EXPECT_THAT(error(Exit::storage), HasSubstr("a.csv: is a folder, expected a file"));
}

TEST_F(ShardInput, SplitsThatNameNoFile) {
  write("a,b\n1,x\n");
  for (const char* split : {"../up", "a/b", ".", ""}) {
    EXPECT_THAT(error(Exit::usage, {fmt::format("sources.0.split='{}'", split)}),
                HasSubstr(fmt::format("split '{}'", split)));
  }
}

TEST_F(ShardInput, ClassFoldersThatCannotBeUsed) {
  const std::vector<std::string> overrides{"sources=[{path: tree, format: image_folder}]",
                                           "fields=[{name: b, kind: label, column: label}]"};
  EXPECT_THAT(error(Exit::data, overrides), HasSubstr("tree: no such folder"));
  fs::create_directories(folder_ + "/tree/cat");
  EXPECT_THAT(error(Exit::data, overrides), HasSubstr("tree: no pictures"));
  write("not a picture", "tree/cat/a.jpg");
  EXPECT_THAT(error(Exit::data, overrides), HasSubstr("tree/cat/a.jpg: neither JPEG nor PNG"));
  fs::create_directories(folder_ + "/tree/caf\xe9");
  EXPECT_THAT(error(Exit::data, overrides), HasSubstr("the name of a class is not UTF-8"));
}

TEST_F(ShardInput, OutputThatCannotBeMade) {
  write("a,b\n1,x\n");
  EXPECT_THAT(error(Exit::storage, {"output=" + folder_ + "/a.csv/set"}),
              HasSubstr("a.csv: make folder failed"));
  EXPECT_THAT(error(Exit::storage, {"output=/proc/set"}), HasSubstr("/proc/set"));
}

// A limit on the size of files stands for a full disk.
TEST_F(ShardInput, NoSpaceForShardsOrSpills) {
  std::string text = "a,b\n";
  for (int i = 0; i < 20000; ++i) text += std::to_string(i) + ",x\n";
  write(text);
  run();
  fs::remove_all(folder_ + "/out");
  const auto limited = [&](i64 memory) {
    rlimit before{};
    getrlimit(RLIMIT_FSIZE, &before);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit small{10000, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    std::string message = "accepted";
    try {
      shard(folder_ + "/r.yaml", {}, memory);
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), Exit::storage);
      message = error.what();
    }
    setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, handler);
    EXPECT_TRUE(real_files().list(folder_ + "/out").empty());  // nothing half done is left
    return message;
  };
  EXPECT_THAT(limited(1 << 30), HasSubstr("train-00000.h5: write of "));
  EXPECT_THAT(limited(1 << 16), HasSubstr("set.spill-"));
}

}  // namespace
}  // namespace cohort
