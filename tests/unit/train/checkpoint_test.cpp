#include "train/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "memory_files.h"
#include "train/retention.h"

namespace cohort {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

const std::string kFolder = "run/checkpoints";
const std::string kTensors = "tensors-00001-of-00001.safetensors";
const std::string kState = "state.json", kManifest = "manifest.json";

// Tensors of every type and odd sizes, filled with values that depend on `salt`.
struct Model {
  explicit Model(i64 salt) {
    for (std::size_t i = 0; i < weight.size(); ++i) {
      weight[i] = static_cast<float>(salt) + 0.25f * static_cast<float>(i);
    }
    count = salt;
    bytes = {static_cast<u8>(salt), 7, 9};
    slot = {-1.5 * static_cast<double>(salt), 1e300};
  }
  std::vector<NamedTensor> tensors() {
    return {{"dense.weight", {weight.data(), DType::f32, {3, 5}}},
            {"flags", {bytes.data(), DType::u8, {3}}},
            {"counter", {&count, DType::i64, {}}},
            {"optimizer/0/dense.bias", {slot.data(), DType::f64, {2}}},
            {"empty", {nullptr, DType::i32, {0, 4}}}};
  }
  bool operator==(const Model& other) const {
    return weight == other.weight && bytes == other.bytes && count == other.count &&
           slot == other.slot;
  }
  std::vector<float> weight = std::vector<float>(15);
  std::vector<u8> bytes;
  std::vector<double> slot;
  i64 count = 0;
};

std::string path_of(i64 step) { return kFolder + "/" + checkpoint_name(step); }

void save(MemoryFiles& files, i64 step) {
  Model model(step);
  save_checkpoint(files, path_of(step), model.tensors(), {{"step", step}});
}

std::unique_ptr<MemoryFiles> disk_with_one() {
  auto files = std::make_unique<MemoryFiles>();
  files->make_folder(kFolder);
  save(*files, 10);
  files->make_durable();
  return files;
}

// The newest checkpoint is one of those allowed, whole and with the state that belongs to it.
i64 expect_whole(MemoryFiles& files) {
  const auto loaded = load_newest(files, kFolder);
  EXPECT_TRUE(loaded.has_value());
  if (!loaded) return -1;
  const i64 step = loaded->state().at("step").get<i64>();
  Model restored(0);
  restore(*loaded, restored.tensors());
  EXPECT_TRUE(restored == Model(step));
  return step;
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), Exit::storage);
    return e.what();
  }
  return "";
}

TEST(Checkpoint, NamesSortByStep) {
  EXPECT_EQ(checkpoint_name(1200), "step-000000001200");
  EXPECT_EQ(checkpoint_step("step-000000001200"), 1200);
  EXPECT_FALSE(checkpoint_step("step-1200"));
  EXPECT_FALSE(checkpoint_step("step-000000001200.tmp-1"));
  EXPECT_FALSE(checkpoint_step("step-00000000120x"));
}

TEST(Checkpoint, RoundTripOfEveryType) {
  auto files = disk_with_one();
  EXPECT_EQ(expect_whole(*files), 10);
  save(*files, 20);
  EXPECT_EQ(expect_whole(*files), 20);
  EXPECT_EQ(checkpoint_steps(*files, kFolder), (std::vector<i64>{10, 20}));
}

TEST(Checkpoint, NoneIsNotAnError) {
  MemoryFiles files;
  EXPECT_FALSE(load_newest(files, kFolder));
  files.make_folder(kFolder);
  EXPECT_FALSE(load_newest(files, kFolder));
}

class EveryFault : public ::testing::TestWithParam<Fault> {};

TEST_P(EveryFault, LeavesThePreviousOrTheNewOne) {
  bool saw_old = false, saw_new = false, finished = false;
  for (i64 k = 0; !finished; ++k) {
    ASSERT_LT(k, 1000);
    auto files = disk_with_one();
    files->arm(GetParam(), k);
    finished = true;
    try {
      save(*files, 20);
    } catch (const Error&) {
      finished = false;
    }
    const bool reported = finished;
    finished = files->operations <= k;   // the fault was not reached: every operation was tried
    files->reboot();
    const i64 step = expect_whole(*files);
    EXPECT_TRUE(step == 10 || step == 20) << "operation " << k;
    if (reported) {
      EXPECT_EQ(step, 20) << "reported as saved, operation " << k;
    }
    (step == 10 ? saw_old : saw_new) = true;
    remove_leftovers(*files, kFolder);
    save(*files, 20);                    // and training goes on from there
    EXPECT_EQ(expect_whole(*files), 20);
    for (const std::string& name : files->list(kFolder)) EXPECT_TRUE(checkpoint_step(name)) << name;
  }
  EXPECT_TRUE(saw_old);
  EXPECT_TRUE(saw_new);
}
INSTANTIATE_TEST_SUITE_P(Checkpoint, EveryFault,
                         ::testing::Values(Fault::error, Fault::torn, Fault::crash, Fault::kill));

TEST(Checkpoint, PruneSurvivesACrashAnywhere) {
  for (const Fault fault : {Fault::crash, Fault::kill, Fault::error}) {
    for (i64 k = 0;; ++k) {
      auto files = disk_with_one();
      for (const i64 step : {20, 30, 40}) save(*files, step);
      files->make_durable();
      files->arm(fault, k);
      try {
        prune(*files, kFolder, {2, {10}, 0});
      } catch (const Error&) {
      }
      const bool finished = files->operations <= k;
      files->reboot();
      for (const i64 step : checkpoint_steps(*files, kFolder)) {
        EXPECT_NO_THROW(load_checkpoint(*files, path_of(step))) << "operation " << k;
      }
      if (finished) {
        EXPECT_EQ(checkpoint_steps(*files, kFolder), (std::vector<i64>{10, 30, 40}));
        break;
      }
    }
  }
}

TEST(Checkpoint, EveryDamagedByteIsDetectedAndSkipped) {
  for (const std::string& name : {kTensors, kState, kManifest}) {
    const std::string path = path_of(20) + "/" + name;
    i64 size = 1;
    for (i64 at = 0; at < size; ++at) {
      auto files = disk_with_one();
      save(*files, 20);
      size = files->size(path);
      files->flip(path, static_cast<std::size_t>(at));
      const std::string message = error_of([&] { load_checkpoint(*files, path_of(20)); });
      EXPECT_THAT(message, HasSubstr(checkpoint_name(20))) << name << " byte " << at;
      if (name != "manifest.json") {
        EXPECT_THAT(message, HasSubstr(name));
      }
      EXPECT_EQ(expect_whole(*files), 10) << name << " byte " << at;
    }
  }
}

TEST(Checkpoint, TruncatedAndMissingFilesAreNamed) {
  for (const std::string& name : {kTensors, kState, kManifest}) {
    auto files = disk_with_one();
    save(*files, 20);
    const std::string path = path_of(20) + "/" + name;
    files->truncate(path, static_cast<std::size_t>(files->size(path) - 1));
    EXPECT_THAT(error_of([&] { load_checkpoint(*files, path_of(20)); }), HasSubstr(name));
    files->remove(path);
    EXPECT_THAT(error_of([&] { load_checkpoint(*files, path_of(20)); }), HasSubstr(name));
    EXPECT_EQ(expect_whole(*files), 10);
  }
}

TEST(Checkpoint, AllDamagedIsAnErrorAndNotAFreshStart) {
  auto files = disk_with_one();
  files->flip(path_of(10) + "/" + kTensors, 40);
  EXPECT_THAT(error_of([&] { load_newest(*files, kFolder); }), HasSubstr("none of 1"));
}

TEST(Checkpoint, ADamagedOneIsReplacedAValidOneKept) {
  auto files = disk_with_one();
  files->flip(path_of(10) + "/" + kTensors, 40);
  save(*files, 10);
  EXPECT_EQ(expect_whole(*files), 10);
  Model other(99);
  save_checkpoint(*files, path_of(10), other.tensors(), {{"step", 99}});
  EXPECT_EQ(expect_whole(*files), 10);
}

TEST(Checkpoint, OneOfAnEarlierAttemptGivesWayAndIsNeverLost) {
  Model other(99);
  for (const Fault fault : {Fault::error, Fault::torn, Fault::crash, Fault::kill}) {
    for (i64 k = 0;; ++k) {
      auto files = disk_with_one();
      files->arm(fault, k);
      try {
        save_checkpoint(*files, path_of(10), other.tensors(), {{"step", 10}, {"way", 2}}, "2");
      } catch (const Error&) {
      }
      const bool finished = files->operations <= k;
      files->reboot();
      bring_back(*files, kFolder);
      ASSERT_EQ(checkpoint_steps(*files, kFolder), std::vector<i64>{10}) << "operation " << k;
      const i64 way = load_checkpoint(*files, path_of(10)).state().value("way", i64{1});
      if (!finished) continue;
      EXPECT_EQ(way, 2);
      break;
    }
  }
}

TEST(Checkpoint, PruneLeavesWhatCannotBeRead) {
  auto files = disk_with_one();
  for (const i64 step : {20, 30, 40}) save(*files, step);
  files->flip(path_of(20) + "/manifest.json", 40);
  EXPECT_EQ(prune(*files, kFolder, {1, {}, 0}), (std::vector<i64>{10, 30}));
  EXPECT_EQ(checkpoint_steps(*files, kFolder), (std::vector<i64>{20, 40}));
}

TEST(Checkpoint, AnAttemptThatIsNotTheNewestWritesNothing) {
  auto files = disk_with_one();
  Model model(20);
  EXPECT_NE(error_of([&] {
              save_checkpoint(*files, path_of(20), model.tensors(), {{"step", 20}}, "",
                              [] { return false; });
            }),
            "");
  EXPECT_EQ(files->list(kFolder), (std::vector<std::string>{checkpoint_name(10)}));
}

TEST(Checkpoint, RestoreNamesWhatDiffers) {
  auto files = disk_with_one();
  const auto loaded = load_checkpoint(*files, path_of(10));
  Model model(1);
  auto targets = model.tensors();
  targets[0].view.shape = {5, 3};
  EXPECT_THAT(error_of([&] { restore(loaded, targets); }),
              ::testing::AllOf(HasSubstr("dense.weight"), HasSubstr("[5, 3]"), HasSubstr("[3, 5]")));
  targets = model.tensors();
  targets[2].view.dtype = DType::f64;
  EXPECT_THAT(error_of([&] { restore(loaded, targets); }),
              ::testing::AllOf(HasSubstr("counter"), HasSubstr("float64"), HasSubstr("int64")));
  targets = model.tensors();
  targets[0].name = "dense.weigth";
  EXPECT_THAT(error_of([&] { restore(loaded, targets); }),
              ::testing::AllOf(HasSubstr("dense.weigth"), HasSubstr("nearest: dense.weight")));
  targets = model.tensors();
  targets.erase(targets.begin() + 3);
  EXPECT_THAT(error_of([&] { restore(loaded, targets); }), HasSubstr("optimizer/0/dense.bias"));
  EXPECT_TRUE(model == Model(1)) << "nothing is copied when something differs";
  restore(loaded, targets, "optimizer/");
  EXPECT_EQ(model.weight, Model(10).weight);
}

}  // namespace
}  // namespace cohort
