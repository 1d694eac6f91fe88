// Whole training runs on ranks as threads: every thread of the program at work in one process,
// where ThreadSanitizer sees them all.
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "app/stop_signals.h"
#include "data/shard_command.h"
#include "store/files.h"
#include "train/trainer.h"
#include "../../comm/thread_world.h"

namespace cohort {
namespace {

// A shard set of reviews and a config that trains on it, in a folder of this test.
std::string prepare(const std::string& name) {
  const std::string folder = testing::TempDir() + "threads_" + name;
  real_files().remove(folder);
  real_files().make_folder(folder);
  for (const auto& [split, rows] : {std::pair{"train", 90}, {"validation", 31}}) {
    std::string csv = "text,label\n";
    for (int i = 0; i < rows; ++i) {
      csv += i % 2 ? "good film" : "bad film";
      for (int k = 0; k < i % 5; ++k) csv += " w" + std::to_string((i * 7 + k) % 40);
      csv += i % 2 ? ",1\n" : ",0\n";
    }
    std::ofstream(folder + "/" + split + ".csv") << csv;
  }
  std::ofstream(folder + "/recipe.yaml")
      << "root: " << folder << "\noutput: " << folder << "/set\nrows_per_block: 7\n"
      << "rows_per_shard: 40\nsources:\n  - {path: train.csv, split: train}\n"
      << "  - {path: validation.csv, split: validation}\nfields:\n"
      << "  - {name: tokens, kind: tokens, column: text}\n"
      << "  - {name: label, kind: label, classes: 2}\n";
  shard(folder + "/recipe.yaml", {});
  return folder;
}

// What `ranks` threads make of it; every rank's exit.
std::vector<Exit> train_on(int ranks, const std::string& folder, const std::string& name,
                           const std::vector<std::string>& more) {
  std::vector<std::string> overrides{"data.shards=" + folder + "/set", "runs=" + folder + "/runs",
                                     "name=" + name,         "train.global_batch=16",
                                     "device.threads=2",      "train.log_every_steps=3",
                                     "model.inputs.tokens.max_length=8"};
  overrides.insert(overrides.end(), more.begin(), more.end());
  const Experiment experiment =
      Experiment::load(COHORT_SOURCE_DIR "/configs/sentiment-cnn.yaml", overrides);
  std::vector<Exit> exits(static_cast<std::size_t>(ranks));
  run_as_threads(ranks, [&](Communicator& c) {
    ThreadWorld world(c);
    exits[static_cast<std::size_t>(c.rank())] = train(world, experiment, RunMode::fresh);
  });
  return exits;
}

TEST(TrainOnThreads, TheSameRowsWhateverTheRanks) {
  const std::string folder = prepare("same");
  for (int ranks : {1, 3}) {
    const std::string name = std::to_string(ranks);
    const std::vector<Exit> exits = train_on(
        ranks, folder, name,
        {"train.epochs=2", "checkpoint.every_steps=4", "data.threads=2", "train.accumulate=2"});
    EXPECT_EQ(exits, std::vector<Exit>(static_cast<std::size_t>(ranks), Exit::done));
  }
  const auto ledger = [&](const char* run) {
    return real_files().read(folder + "/runs/" + run + "/ledger.jsonl");
  };
  EXPECT_EQ(ledger("1"), ledger("3"));
}

TEST(TrainOnThreads, ASignalStopsAllRanks) {
  const std::string folder = prepare("stopped");
  const StopSignals signals;
  std::thread sender([&] {
    const std::string checkpoints = folder + "/runs/stopped/checkpoints";
    while (!real_files().exists(checkpoints) || real_files().list(checkpoints).empty())
      std::this_thread::yield();
    ::kill(::getpid(), SIGTERM);
  });
  const std::vector<Exit> exits = train_on(
      2, folder, "stopped",
      {"train.epochs=100000", "train.eval_every_epochs=0", "checkpoint.every_steps=2"});
  sender.join();
  EXPECT_EQ(exits, std::vector<Exit>(2, Exit::stopped));
}

}  // namespace
}  // namespace cohort
