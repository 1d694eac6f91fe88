#include <gmock/gmock.h>

#include "serve/bundle_files.h"
#include "serve/triton.h"
#include "store/folder.h"
#include "unit/serve/tiny.h"
#include "unit/train/memory_files.h"

namespace cohort {
namespace {

// A bundle in memory, where each byte can be spoiled.
MemoryFiles in_memory(const Tiny& tiny) {
  MemoryFiles files;
  write_bundle(files, "out/b", tiny.content());
  return files;
}

std::string refusal(MemoryFiles& files) {
  try {
    check_bundle_files(files, "out/b", {});
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), Exit::storage);
    return e.what();
  }
  return "";
}

TEST(Bundle, OpensAsWritten) {
  const Tiny tiny = make_two_tower("opens");
  const auto bundle = tiny.bundle("b");
  EXPECT_EQ(bundle->digest().size(), 64u);
  EXPECT_EQ(bundle->golden().size(), tiny.shards->samples().size());
  EXPECT_EQ(bundle->weights().size(), tiny.graph.params.size());
  EXPECT_EQ(bundle->graph().nodes.size(), tiny.graph.nodes.size());
  ASSERT_NE(bundle->towers(), nullptr);
  EXPECT_EQ(bundle->towers()->item_names.size(), 5u);
  EXPECT_EQ(bundle->manifest().at("lineage").at("step"), 7);
  EXPECT_THROW(write_bundle(real_files(), tiny.folder + "/b", tiny.content()), Error);
}

TEST(Bundle, AnyFlippedByteIsRefusedNamingTheFile) {
  const Tiny tiny = make_two_tower("flipped");
  MemoryFiles files = in_memory(tiny);
  ASSERT_EQ(refusal(files), "");
  for (const std::string& name : files.list("out/b")) {
    const std::string path = "out/b/" + name;
    const auto bytes = static_cast<std::size_t>(files.size(path));
    const std::size_t step = bytes < 2000 ? 1 : bytes / 300;
    for (std::size_t at = 0; at < bytes; at += step) {
      files.flip(path, at);
      ASSERT_TRUE(refusal(files).starts_with(path + ":")) << path << " " << at << refusal(files);
      files.flip(path, at);
    }
  }
  EXPECT_EQ(refusal(files), "");
}

BundleContent with_data_files(const Tiny& tiny) {
  BundleContent content = tiny.content();
  content.inline_model = -1;
  content.inline_tensor = 15;
  return content;
}

TEST(Bundle, DataFilesAreListedToldAndChecked) {
  const Tiny tiny = make_two_tower("data-files");
  const BundleContent content = with_data_files(tiny);
  write_bundle(real_files(), tiny.folder + "/b", content);   // with the checks of real files
  MemoryFiles files;
  write_bundle(files, "out/b", content);
  const nlohmann::json sums = Bundle::open(files, "out/b")->manifest().at("sha256");
  for (const std::string model : {"model", "user_tower", "item_tower"}) {
    const std::string name = model + ".onnx.data", path = "out/b/" + name;
    EXPECT_EQ(files.read(path), real_files().read(tiny.folder + "/b/" + name));
    EXPECT_TRUE(sums.contains(name));
    EXPECT_THAT(files.read("out/b/README.md"), testing::HasSubstr("`" + name + "`"));
    EXPECT_THAT(files.read("out/b/" + model + ".onnx"), testing::HasSubstr(name));
    for (const double place : {0.0, 0.4, 0.999}) {
      const auto at = static_cast<std::size_t>(place * static_cast<double>(files.size(path)));
      files.flip(path, at);
      EXPECT_TRUE(refusal(files).starts_with(path + ":")) << path << " " << at << refusal(files);
      files.flip(path, at);
    }
  }
  EXPECT_FALSE(files.exists("out/b/scorer.onnx.data"));   // it has no weights
  EXPECT_EQ(refusal(files), "");
}

TEST(Bundle, TritonGetsTheDataFileOfTheModel) {
  const Tiny tiny = make_two_tower("data-triton");
  MemoryFiles files;
  write_bundle(files, "out/b", with_data_files(tiny));
  const std::string version = publish_to_triton(files, "out/b", "triton", "tiny", 0);
  EXPECT_EQ(version, "triton/tiny/1");
  for (const char* name : {"/model.onnx", "/model.onnx.data"})
    EXPECT_EQ(files.read(version + name), files.read(std::string("out/b") + name));
  EXPECT_FALSE(files.exists(version + "/user_tower.onnx.data"));
}

TEST(Bundle, MissingAndUnknownFilesAreRefused) {
  const Tiny tiny = make_next("missing", 8);
  MemoryFiles files = in_memory(tiny);
  for (const std::string& name : files.list("out/b")) {
    const std::string bytes = files.read("out/b/" + name);
    files.remove("out/b/" + name);
    EXPECT_THAT(refusal(files), testing::HasSubstr(name)) << name;
    write_file(files, "out/b", name, [&](FileWriter& out) {
      out.write(bytes.data(), static_cast<i64>(bytes.size()));
    });
    ASSERT_EQ(refusal(files), "");
  }
  files.make_folder("out/b/more");
  EXPECT_THAT(refusal(files), testing::HasSubstr("out/b/more"));
}

TEST(Bundle, IsWholeOrNotThereWhereverTheProcessDies) {
  const Tiny tiny = make_next("dies", 8);
  const BundleContent content = tiny.content();
  i64 whole = 0, absent = 0;
  for (const Fault fault : {Fault::kill, Fault::crash, Fault::error, Fault::torn}) {
    for (i64 at = 0;; ++at) {
      MemoryFiles files;
      files.arm(fault, at);
      bool done = true;
      try {
        write_bundle(files, "out/b", content);
      } catch (const Error&) {
        done = false;
      }
      files.reboot();
      if (files.exists("out/b")) {
        ++whole;
        EXPECT_NO_THROW(Bundle::open(files, "out/b")) << "fault " << static_cast<int>(fault) << " at " << at;
      } else {
        ++absent;
        EXPECT_FALSE(done);
      }
      if (done) break;
    }
  }
  EXPECT_GE(whole, 4);
  EXPECT_GT(absent, 40);
}

TEST(Bundle, PartsThatDoNotFitAreRefused) {
  const Tiny tiny = make_two_tower("parts");
  BundleContent content = tiny.content();
  content.golden.clear();
  EXPECT_THROW(write_bundle(real_files(), tiny.folder + "/none", content), Error);
  content = tiny.content();
  content.shards = nullptr;
  EXPECT_THROW(write_bundle(real_files(), tiny.folder + "/none", content), Error);
  EXPECT_FALSE(real_files().exists(tiny.folder + "/none"));
}

}  // namespace
}  // namespace cohort
