#include "serve/repository.h"

#include <gmock/gmock.h>

#include "base/text.h"
#include "serve/bundle_files.h"
#include "serve/repository_check.h"
#include "serve/triton.h"
#include "unit/serve/tiny.h"
#include "unit/train/memory_files.h"

namespace cohort {
namespace {

using testing::HasSubstr;

// A bundle "b<k>" in memory, with these metrics.
void export_to(Files& files, const Tiny& tiny, int k, double auc, const std::string& data = "d") {
  BundleContent content = tiny.content();
  content.lineage.step = k;
  content.lineage.data = data;
  content.lineage.metrics = {{"auc", auc}, {"log_loss", 1 - auc}};
  write_bundle(files, "out/b" + std::to_string(k), content);
}

std::string refusal(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

std::vector<std::string> actions(Files& files) {
  std::vector<std::string> found;
  for (const std::string& line : split(files.read("disk/repo/history.jsonl"), '\n')) {
    if (line.empty()) continue;
    const auto json = nlohmann::json::parse(line);
    found.push_back(json.at("action").get<std::string>() + " " + json.at("version").dump());
  }
  return found;
}

class RepositoryTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { tiny_ = new Tiny(make_next("repository", 8)); }
  static void TearDownTestSuite() { delete tiny_; }
  void export_one(int k, double auc, const std::string& data = "d") {
    export_to(files, *tiny_, k, auc, data);
  }
  Published publish(int k, const PublishOptions& options = {}) {
    return repository.publish("out/b" + std::to_string(k), options);
  }
  static Tiny* tiny_;
  MemoryFiles files;
  Repository repository{files, "disk/repo/"};
};
Tiny* RepositoryTest::tiny_ = nullptr;

TEST_F(RepositoryTest, PublishesNumberedVersionsAndPromotes) {
  EXPECT_EQ(repository.current(), "");
  EXPECT_TRUE(repository.list().empty());
  export_one(1, 0.7);
  export_one(2, 0.8);
  const Published first = publish(1);
  EXPECT_EQ(first.version, 1);
  EXPECT_TRUE(first.promoted);
  EXPECT_EQ(repository.current(), "disk/repo/versions/000001");
  EXPECT_EQ(Bundle::open(files, repository.current())->digest(), first.digest);
  EXPECT_EQ(Bundle::open(files, "disk/repo/current")->digest(), first.digest);
  EXPECT_EQ(publish(2).version, 2);
  EXPECT_EQ(files.read_link("disk/repo/current"), "versions/000002");
  const auto all = repository.list();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_TRUE(all[0].previous && !all[0].current && all[1].current);
  EXPECT_EQ(all[0].digest, first.digest);
  EXPECT_EQ(all[1].metrics.at(0).second, 0.8);
  EXPECT_THAT(actions(files), testing::ElementsAre("published 1", "promoted 1", "published 2",
                                                   "promoted 2"));
}

TEST_F(RepositoryTest, AWorseOneIsKeptAndNotPromoted) {
  for (const auto& [k, auc] : {std::pair{1, 0.8}, {2, 0.799}, {3, 0.7985}, {4, 0.7}}) export_one(k, auc);
  PublishOptions options;
  options.metric = "auc";
  EXPECT_TRUE(publish(1, options).promoted);
  const Published refused = publish(2, options);
  EXPECT_FALSE(refused.promoted);
  EXPECT_THAT(refused.reason, HasSubstr("auc 0.799 is worse than current's 0.8 by 0.001"));
  EXPECT_EQ(repository.current(), "disk/repo/versions/000001");
  options.max_worse = 0.01;
  EXPECT_TRUE(publish(3, options).promoted);
  options.metric = "log_loss";   // smaller is better
  EXPECT_FALSE(publish(4, options).promoted);
  options.max_worse = 1;
  EXPECT_TRUE(publish(4, options).promoted);   // there already: no new number
  EXPECT_EQ(repository.current(), "disk/repo/versions/000004");
  EXPECT_EQ(repository.list().size(), 4u);
}

TEST_F(RepositoryTest, OnlyComparesOnTheSameData) {
  export_one(1, 0.7);
  export_one(2, 0.9, "other");
  export_one(3, std::nan(""));
  PublishOptions options;
  options.metric = "auc";
  publish(1, options);
  EXPECT_THAT(publish(2, options).reason, HasSubstr("auc of data \"other\", current's of \"d\""));
  EXPECT_THAT(publish(3, options).reason, HasSubstr("auc is nan"));
  EXPECT_EQ(repository.current(), "disk/repo/versions/000001");
  options.metric = "accuracy";
  EXPECT_THAT(refusal([&] { publish(2, options); }), HasSubstr("expected one of: auc, log_loss"));
  options.metric = "";
  EXPECT_TRUE(publish(2, options).promoted);
}

TEST_F(RepositoryTest, RollsBackAsFarAsThereIsSomething) {
  EXPECT_THAT(refusal([&] { repository.rollback(); }), HasSubstr("expected a serving repository"));
  for (int k = 1; k <= 3; ++k) {
    export_one(k, 0.5);
    publish(k);
  }
  EXPECT_EQ(repository.rollback(), 2);
  EXPECT_EQ(repository.rollback(), 1);
  EXPECT_EQ(repository.current(), "disk/repo/versions/000001");
  EXPECT_THAT(refusal([&] { repository.rollback(); }), HasSubstr("no version was current before 1"));
  EXPECT_TRUE(publish(3).promoted);
  EXPECT_EQ(repository.rollback(), 1);
}

TEST_F(RepositoryTest, DoesNotRollBackToADamagedVersion) {
  for (int k = 1; k <= 2; ++k) {
    export_one(k, 0.5);
    publish(k);
  }
  files.flip("disk/repo/versions/000001/golden.jsonl", 5);
  EXPECT_THAT(refusal([&] { repository.rollback(); }), HasSubstr("000001/golden.jsonl"));
  EXPECT_EQ(repository.current(), "disk/repo/versions/000002");
}

TEST_F(RepositoryTest, PruneKeepsCurrentAndTheOneBefore) {
  PublishOptions strict;
  strict.metric = "auc";
  for (int k = 1; k <= 6; ++k) {
    export_one(k, k == 3 ? 0.9 : k < 3 ? 0.5 : 0.1);
    publish(k, strict);   // 4, 5, 6 are refused
  }
  EXPECT_EQ(repository.current(), "disk/repo/versions/000003");
  EXPECT_THAT(repository.prune(1), testing::ElementsAre(1, 4, 5));
  std::vector<i64> left;
  for (const ServedVersion& v : repository.list()) left.push_back(v.number);
  EXPECT_THAT(left, testing::ElementsAre(2, 3, 6));
  EXPECT_EQ(repository.rollback(), 2);
  files.remove("out/b1");
  export_one(1, 0.2);
  EXPECT_EQ(publish(1).version, 7);   // numbers are not used twice
}

// Readers may have open what was current a moment ago.
TEST_F(RepositoryTest, PruneKeepsWhatARollbackReplaced) {
  for (int k = 1; k <= 4; ++k) export_one(k, k < 3 ? 0.5 : 0.1);
  PublishOptions strict;
  strict.metric = "auc";
  for (int k = 1; k <= 3; ++k) publish(k, strict);   // 3 is refused
  EXPECT_EQ(repository.rollback(), 1);
  EXPECT_TRUE(repository.prune(1).empty());
  publish(4);
  EXPECT_THAT(repository.prune(1), testing::ElementsAre(2, 3));
}

TEST_F(RepositoryTest, NothingDamagedGetsIn) {
  export_one(1, 0.5);
  publish(1);
  export_one(2, 0.5);
  files.flip("out/b2/weights.safetensors", 100);
  EXPECT_THAT(refusal([&] { publish(2); }), HasSubstr("out/b2/weights.safetensors"));
  EXPECT_EQ(repository.list().size(), 1u);
}

TEST_F(RepositoryTest, WritesOnlyIntoARepositoryOrAnEmptyFolder) {
  export_one(1, 0.5);
  publish(1);
  export_one(2, 0.5);
  for (const char* folder : {"disk/run", "disk/set", "disk/other/notes"}) files.make_folder(folder);
  write_atomically(files, "disk/run/run.json", "{}");
  write_atomically(files, "disk/set/manifest.json", "{\"manifest_checksum\":\"0\"}");
  write_atomically(files, "disk/other/notes/x.txt", "x");
  for (const auto& [folder, got] : std::map<std::string, std::string>{
           {"out/b2", "a bundle: MANIFEST.sha256"},
           {"out/b2/serving", "inside a bundle, out/b2"},
           {"disk/repo/versions/000001", "inside a serving repository, disk/repo"},
           {"disk/repo/versions", "inside a serving repository, disk/repo"},
           {"disk/set", "a shard set or checkpoint: manifest.json"},
           {"disk/set/new", "inside a shard set or checkpoint, disk/set"},
           {"disk/run", "a run's folder: run.json"},
           {"disk/other", "got notes;"}}) {
    Repository repo(files, folder);
    const i64 before = files.operations;
    for (const auto& work : std::vector<std::function<void()>>{
             [&] { repo.publish("out/b2", {}); }, [&] { repo.rollback(); }, [&] { repo.prune(1); },
             [&] { require_repository(files, folder); }})
      EXPECT_THAT(refusal(work), HasSubstr(got)) << folder;
    EXPECT_THAT(refusal([&] { publish_to_triton(files, "out/b2", folder, "m", 0); }),
                HasSubstr(got)) << folder;
    EXPECT_EQ(files.operations, before) << folder;
  }
  EXPECT_THAT(refusal([&] { publish_to_triton(files, "out/b2", "disk/repo", "m", 0); }),
              HasSubstr("expected a new or empty folder or a model repository of Triton"));
  EXPECT_THAT(refusal([&] { require_repository(files, "disk/none"); }), HasSubstr("got nothing"));
  files.make_folder("disk/new/lost+found");
  EXPECT_TRUE(Repository(files, "disk/new").publish("out/b2", {}).promoted);
  EXPECT_TRUE(files.exists("disk/new/lost+found"));
  write_atomically(files, "disk/repo/notes.tmp.txt", "x");   // what others keep there stays
  EXPECT_EQ(publish(2).version, 2);
  EXPECT_TRUE(files.exists("disk/repo/notes.tmp.txt"));
}

TEST_F(RepositoryTest, ModelsOfOtherClientsAreNotPromoted) {
  export_one(1, 0.5);
  publish(1);
  const Tiny other = make_two_tower("repository_other");
  write_bundle(files, "out/b9", other.content());
  const Published refused = publish(9);
  EXPECT_EQ(refused.version, 2);
  EXPECT_FALSE(refused.promoted);
  EXPECT_THAT(refused.reason, HasSubstr("takes other columns: "));
  EXPECT_THAT(refused.reason, HasSubstr("user (id)"));
  EXPECT_THAT(refused.reason, HasSubstr("current's: events (ids)"));
  EXPECT_EQ(repository.current(), "disk/repo/versions/000001");
  PublishOptions force;
  force.force = true;
  EXPECT_TRUE(publish(9, force).promoted);
  EXPECT_EQ(repository.current(), "disk/repo/versions/000002");
}

TEST_F(RepositoryTest, WhatIsOtherToClients) {
  const auto one = nlohmann::json::parse(R"({
      "columns": [{"name": "a", "kind": "id"}, {"name": "b", "kind": "id"}],
      "outputs": [{"name": "logit", "dtype": "float32"}]})");
  nlohmann::json other = one;
  std::swap(other["columns"][0], other["columns"][1]);   // rows are objects: any order
  EXPECT_EQ(interface_difference(one, other), "");
  other["outputs"][0]["name"] = "prediction";
  EXPECT_THAT(interface_difference(one, other), HasSubstr("has other outputs: logit (float32)"));
  other = one;
  other["outputs"].push_back({{"name", "more"}, {"dtype", "float32"}});
  EXPECT_EQ(interface_difference(other, one), "") << "clients find what they know";
  EXPECT_THAT(interface_difference(one, other), HasSubstr("has other outputs: logit (float32); current's"));
  other = one;
  other["columns"][0]["kind"] = "text";
  EXPECT_THAT(interface_difference(other, one), HasSubstr("takes other columns: a (text), b (id)"));
  other = one;
  other["outputs"][0]["shape"] = {"N", "3"};
  EXPECT_THAT(interface_difference(other, one), HasSubstr("has other outputs: logit (float32 [N, 3])"));
  other = one;
  other["labels"] = {"cat", "dog"};
  EXPECT_EQ(interface_difference(other, one), "") << "nobody can know labels that there were not";
  EXPECT_EQ(interface_difference(one, other), "has 0 labels; current has 2");
  nlohmann::json turned = other;
  turned["labels"] = {"dog", "cat"};
  EXPECT_EQ(interface_difference(turned, other),
            "has other labels: 0 is \"dog\"; current's: \"cat\"");
  other = one;
  other["two_tower"] = nlohmann::json::object();
  EXPECT_NE(interface_difference(one, other), "");
  EXPECT_NE(interface_difference(other, one), "");
}

TEST_F(RepositoryTest, WhereCurrentIsGoneItIsSaidWhatToDo) {
  for (int k = 1; k <= 3; ++k) export_one(k, 0.5);
  publish(1);
  publish(2);
  files.remove("disk/repo/versions/000002");
  PublishOptions options;
  options.metric = "auc";
  const Published refused = publish(3, options);
  EXPECT_FALSE(refused.promoted);
  EXPECT_THAT(refused.reason, HasSubstr("names version 2, which is not there"));
  EXPECT_THAT(refused.reason, HasSubstr("--rollback"));
  EXPECT_TRUE(publish(3).promoted);
}

// What must hold at any time: current is a complete bundle, and so is every version.
void expect_whole(MemoryFiles& files, const std::string& where) {
  const Repository repository(files, "disk/repo");
  std::string current;
  ASSERT_NO_THROW(current = repository.current()) << where;
  if (!current.empty()) {
    EXPECT_NO_THROW(check_bundle_files(files, current, {})) << where;
  }
  for (const ServedVersion& v : repository.list())
    EXPECT_NO_THROW(
        check_bundle_files(files, fmt::format("disk/repo/versions/{:06}", v.number), {})) << where;
}

// A second version is published, promoted, and the first of two old ones removed; then a rollback.
TEST_F(RepositoryTest, IsWholeWhereverTheProcessDies) {
  PublishOptions options;
  options.keep = 1;
  i64 died = 0, advanced = 0;
  for (const Fault fault : {Fault::kill, Fault::crash, Fault::error, Fault::torn}) {
    for (i64 at = 0;; ++at) {
      MemoryFiles disk;
      for (int k = 1; k <= 4; ++k) export_to(disk, *tiny_, k, 0.5);
      Repository repo(disk, "disk/repo");
      for (int k = 1; k <= 3; ++k) repo.publish("out/b" + std::to_string(k), {});
      disk.make_durable();
      disk.arm(fault, at);
      const bool done = refusal([&] {
        repo.publish("out/b4", options);
        repo.rollback();
      }).empty();
      const bool all = disk.operations <= at;
      died += !done;
      disk.reboot();
      const std::string where = fmt::format("fault {} at {}", static_cast<int>(fault), at);
      expect_whole(disk, where);
      ASSERT_NE(repo.current(), "") << where;
      advanced += repo.current() == "disk/repo/versions/000004";
      const Published again = repo.publish("out/b4", {});   // goes on where it had stopped
      EXPECT_EQ(again.version, 4) << where;
      EXPECT_EQ(repo.current(), "disk/repo/versions/000004") << where;
      expect_whole(disk, where);
      for (const std::string& name : disk.list("disk/repo/versions"))
        EXPECT_EQ(name.find(".tmp"), std::string::npos) << where << " " << name;
      EXPECT_EQ(repo.rollback(), 3) << where;
      if (all) break;
    }
  }
  EXPECT_GT(died, 100);
  EXPECT_GT(advanced, 10);
}

// The first version: there is no current, or a whole one.
TEST_F(RepositoryTest, TheFirstIsThereOrNotWhereverTheProcessDies) {
  i64 none = 0, some = 0;
  for (const Fault fault : {Fault::kill, Fault::crash, Fault::error, Fault::torn}) {
    for (i64 at = 0;; ++at) {
      MemoryFiles disk;
      export_to(disk, *tiny_, 1, 0.5);
      disk.make_durable();
      disk.arm(fault, at);
      const bool done =
          refusal([&] { Repository(disk, "disk/repo").publish("out/b1", {}); }).empty();
      const bool all = disk.operations <= at;
      disk.reboot();
      const std::string where = fmt::format("fault {} at {}", static_cast<int>(fault), at);
      if (disk.exists("disk/repo")) expect_whole(disk, where);
      const bool there = disk.exists("disk/repo/current");
      ++(there ? some : none);
      EXPECT_TRUE(there || !done) << where;
      if (all) break;
    }
  }
  EXPECT_GT(none, 40);
  EXPECT_GE(some, 4);
}

// What Triton takes for versions: names that std::stoll() takes, without a zero before them.
std::vector<std::string> versions_for_triton(Files& files, const std::string& model) {
  std::vector<std::string> found;
  for (const std::string& name : files.list(model))
    if (std::isdigit(static_cast<unsigned char>(name[0])) && name[0] != '0' &&
        name.find(".pbtxt") == std::string::npos)
      found.push_back(name);
  return found;
}

// A third version comes and the first one goes: all that Triton can see is whole.
TEST_F(RepositoryTest, TritonNeverSeesHalfAVersion) {
  i64 died = 0, there = 0;
  for (const Fault fault : {Fault::kill, Fault::crash, Fault::error, Fault::torn}) {
    for (i64 at = 0;; ++at) {
      MemoryFiles disk;
      for (int k = 1; k <= 3; ++k) export_to(disk, *tiny_, k, 0.5);
      for (int k = 1; k <= 2; ++k)
        publish_to_triton(disk, "out/b" + std::to_string(k), "triton", "m", 0);
      disk.make_durable();
      disk.arm(fault, at);
      const bool done =
          refusal([&] { publish_to_triton(disk, "out/b3", "triton", "m", 1); }).empty();
      const bool all = disk.operations <= at;
      died += !done;
      disk.reboot();
      const std::string where = fmt::format("fault {} at {}", static_cast<int>(fault), at);
      for (const std::string& name : versions_for_triton(disk, "triton/m")) {
        there += name == "3";
        for (const char* file : {"model.onnx", "preprocess.json", "golden.jsonl", "manifest.json"})
          ASSERT_EQ(disk.read("triton/m/" + name + "/" + file), disk.read("out/b" + name + "/" + file))
              << where;
      }
      publish_to_triton(disk, "out/b3", "triton", "m", 1);   // goes on where it had stopped
      EXPECT_THAT(versions_for_triton(disk, "triton/m"), testing::Contains("3")) << where;
      for (const std::string& name : disk.list("triton/m"))
        EXPECT_EQ(name.find(".tmp"), std::string::npos) << where << " " << name;
      if (all) break;
    }
  }
  EXPECT_GT(died, 50);
  EXPECT_GT(there, 4);
}

TEST(RepositoryOnDisk, LinksAndLocksAreThoseOfTheSystem) {
  const Tiny tiny = make_next("repository_disk", 8);
  const std::string folder = tiny.folder + "/repo";
  BundleContent content = tiny.content();
  write_bundle(real_files(), tiny.folder + "/b1", content);
  content.lineage.step = 2;
  write_bundle(real_files(), tiny.folder + "/b2", content);
  Repository repository(real_linked_files(), folder);
  EXPECT_TRUE(repository.publish(tiny.folder + "/b1", {}).promoted);
  EXPECT_TRUE(repository.publish(tiny.folder + "/b2/", {}).promoted);
  EXPECT_EQ(repository.current(), folder + "/versions/000002");
  EXPECT_EQ(Bundle::open(real_files(), folder + "/current")->manifest().at("lineage").at("step"), 2);
  {
    const auto held = real_linked_files().lock(folder + "/lock");
    EXPECT_FALSE(FileLock(folder + "/lock").try_take());
  }
  EXPECT_TRUE(FileLock(folder + "/lock").try_take());
  EXPECT_THROW(real_linked_files().read_link(folder + "/lock"), Error);
  EXPECT_EQ(repository.rollback(), 1);
}

}  // namespace
}  // namespace cohort
