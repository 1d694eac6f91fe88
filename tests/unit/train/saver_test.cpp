// Checkpoints by several ranks, each with its slice, on a disk that all share and that fails, or is
// switched off, at any operation of any rank.
#include "train/saver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <cstring>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "memory_files.h"

namespace cohort {
namespace {

using ::testing::HasSubstr;

const std::string kFirst = "run/checkpoints", kSecond = "other/checkpoints";

// Three tensors on a device of its own; more rows than ranks, a scalar, and values of `salt`.
struct Model {
  explicit Model(i64 salt) {
    add("dense.weight", {5, 3});
    add("dense.bias", {});
    add("optimizer/0/dense.weight", {5, 3});
    fill(salt);
  }
  void add(const std::string& name, const Shape& shape) {
    View view{nullptr, DType::f32, shape};
    view.data = device->allocate(view.bytes());
    tensors.push_back({name, view});
  }
  void fill(i64 salt) {
    for (const NamedTensor& t : tensors) {
      float* values = t.view.as<float>();
      for (i64 k = 0; k < t.view.bytes() / 4; ++k)
        values[k] = static_cast<float>(salt) + 0.3f * static_cast<float>(k);
    }
  }
  bool operator==(const Model& other) const {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const View &a = tensors[i].view, &b = other.tensors[i].view;
      if (std::memcmp(a.data, b.data, static_cast<std::size_t>(a.bytes())) != 0) return false;
    }
    return true;
  }
  std::unique_ptr<Device> device = make_cpu_device({});
  std::vector<NamedTensor> tensors;
};

// What goes wrong, at which operation of which rank, and where.
struct Plan {
  Fault fault = Fault::none;
  int rank = 0;
  i64 at = -1;
  bool always = false;        // from there on, in paths that begin with `under`
  std::string under;
};

struct Disk {
  MemoryFiles files;
  std::mutex mutex;
  std::condition_variable changed;
  bool hung = false;          // no operation returns
};

// The disk as one rank sees it: its operations are counted alone, so that a number names one.
class RankFiles : public Files {
  // Before what uses them, which learns from them what they return.
  template <class Work>
  auto look(Work work) {
    std::unique_lock<std::mutex> lock(disk_.mutex);
    disk_.changed.wait(lock, [&] { return !disk_.hung; });
    return work();
  }
  template <class Work>
  auto change(const std::string& path, Work work) {
    return look([&] {
      const bool mine = rank_ == plan_.rank && path.starts_with(plan_.under);
      const i64 now = operations++;
      if (mine && (now == plan_.at || (plan_.always && now > plan_.at)))
        disk_.files.arm(plan_.fault, 0);   // the next operation, which is this one
      return work();
    });
  }

 public:
  RankFiles(Disk& disk, int rank, Plan plan) : disk_(disk), rank_(rank), plan_(std::move(plan)) {}
  i64 operations = 0;

  std::unique_ptr<FileWriter> create(const std::string& path) override {
    auto inner = change(path, [&] { return disk_.files.create(path); });
    return std::make_unique<Writer>(*this, path, std::move(inner));
  }
  std::unique_ptr<FileWriter> append(const std::string& path) override {
    auto inner = change(path, [&] { return disk_.files.append(path); });
    return std::make_unique<Writer>(*this, path, std::move(inner));
  }
  void rename(const std::string& from, const std::string& to) override {
    change(from, [&] { disk_.files.rename(from, to); });
  }
  void sync_folder(const std::string& path) override {
    change(path, [&] { disk_.files.sync_folder(path); });
  }
  void make_folder(const std::string& path) override {
    change(path, [&] { disk_.files.make_folder(path); });
  }
  bool make_folder_exclusive(const std::string& path) override {
    return change(path, [&] { return disk_.files.make_folder_exclusive(path); });
  }
  void remove(const std::string& path) override {
    change(path, [&] { disk_.files.remove(path); });
  }
  std::string read(const std::string& path) override {
    return look([&] { return disk_.files.read(path); });
  }
  bool exists(const std::string& path) override {
    return look([&] { return disk_.files.exists(path); });
  }
  i64 size(const std::string& path) override {
    return look([&] { return disk_.files.size(path); });
  }
  std::vector<std::string> list(const std::string& path) override {
    return look([&] { return disk_.files.list(path); });
  }

 private:
  struct Writer : FileWriter {
    Writer(RankFiles& files, std::string path, std::unique_ptr<FileWriter> inner)
        : files_(files), path_(std::move(path)), inner_(std::move(inner)) {}
    void write(const void* data, i64 bytes) override {
      files_.change(path_, [&] { inner_->write(data, bytes); });
    }
    void sync() override {
      files_.change(path_, [&] { inner_->sync(); });
    }
    void close() override {
      files_.change(path_, [&] { inner_->close(); });
    }
    RankFiles& files_;
    std::string path_;
    std::unique_ptr<FileWriter> inner_;
  };

  Disk& disk_;
  const int rank_;
  const Plan plan_;
};

struct Result {
  bool written = false;       // told so by every rank alike
  i64 operations = 0;         // of the rank that the plan names
  std::string error;
};

struct Job {
  int ranks = 2;
  Plan plan;
  i64 retries = 0;
  std::string second;
  std::string attempt = "1";
};

// One checkpoint of step 20, as the ranks of one job write it. The older ones are to go afterwards.
Result save(Disk& disk, const Job& job) {
  Result result;
  std::set<bool> written;
  run_as_threads(job.ranks, [&](Communicator& ranks) {
    Model model(20);
    RankFiles files(disk, ranks.rank(), job.plan);
    bool ok = false;
    std::string error;
    {
      SaverConfig config;
      config.first = kFirst;
      config.second = job.second;
      config.attempt = job.attempt;
      config.retries = job.retries;
      config.backoff_s = 0;
      Saver saver(files, ranks, *model.device, model.tensors, config);
      saver.begin({20, R"({"step": 20})", {1, {}, 0}});
      model.fill(21);   // training goes on
      ok = saver.wait(20);
      error = saver.last_error();
    }                   // its thread has ended
    std::lock_guard<std::mutex> lock(disk.mutex);
    written.insert(ok);
    if (ranks.rank() != job.plan.rank) return;
    result = {ok, files.operations, error};
  });
  EXPECT_EQ(written.size(), 1u) << "the ranks disagree";
  return result;
}

// A disk with a checkpoint of step 10 by so many ranks.
std::unique_ptr<Disk> disk_with_one(int ranks) {
  auto disk = std::make_unique<Disk>();
  disk->files.make_folder(kFirst);
  run_as_threads(ranks, [&](Communicator& c) {
    Model model(10);
    RankFiles files(*disk, c.rank(), {});
    SaverConfig config;
    config.first = kFirst;
    config.attempt = "0";
    Saver saver(files, c, *model.device, model.tensors, config);
    saver.begin({10, R"({"step": 10})", {2, {}, 0}});
    EXPECT_TRUE(saver.wait(10));
  });
  disk->files.make_durable();
  return disk;
}

// The newest checkpoint is whole, and has the state and the very tensors of its step.
i64 newest(Disk& disk) {
  const auto loaded = load_newest(disk.files, {kFirst, kSecond});
  EXPECT_TRUE(loaded.has_value());
  if (!loaded) return -1;
  const i64 step = loaded->state().at("step").get<i64>();
  Model restored(0);
  restore(*loaded, restored.tensors);
  EXPECT_TRUE(restored == Model(step)) << "step " << step;
  return step;
}

struct Case {
  int ranks;
  Fault fault;
};

// Calls `body` for every operation of every rank of a job like this one.
void for_every_operation(int ranks, Job job, const std::function<void(const Job&, Disk&)>& body) {
  job.ranks = ranks;
  for (int rank = 0; rank < ranks; ++rank) {
    job.plan.rank = rank;
    job.plan.at = -1;
    Plan none = job.plan;
    none.fault = Fault::none;
    none.always = false;
    auto calm = disk_with_one(ranks);
    const i64 all = save(*calm, {ranks, none, job.retries, job.second, "1"}).operations;
    ASSERT_GT(all, rank == 0 ? 20 : 5);
    for (i64 at = 0; at < all; ++at) {
      SCOPED_TRACE(fmt::format("operation {} of {} of rank {} of {}", at, all, rank, ranks));
      job.plan.at = at;
      auto disk = disk_with_one(ranks);
      body(job, *disk);
    }
  }
}

class SaverDies : public ::testing::TestWithParam<Case> {};

TEST_P(SaverDies, ThereIsAWholeOneAndTheNextJobGoesOn) {
  bool saw_old = false, saw_new = false;
  Job job;
  job.plan.fault = GetParam().fault;
  for_every_operation(GetParam().ranks, job, [&](const Job& now, Disk& disk) {
    const Result result = save(disk, now);
    disk.files.reboot();
    const i64 step = newest(disk);
    EXPECT_TRUE(step == 10 || step == 20);
    if (result.written) {
      EXPECT_EQ(step, 20) << "told as written";
    }
    (step == 10 ? saw_old : saw_new) = true;
    remove_leftovers(disk.files, kFirst);
    Job next;
    next.ranks = now.ranks == 2 ? 3 : 2;
    next.attempt = "2";
    EXPECT_TRUE(save(disk, next).written);
    EXPECT_EQ(newest(disk), 20);
    for (const std::string& name : disk.files.list(kFirst))
      EXPECT_TRUE(name == "latest" || checkpoint_step(name)) << name;
  });
  EXPECT_TRUE(saw_old);
  EXPECT_TRUE(saw_new);
}
INSTANTIATE_TEST_SUITE_P(Saver, SaverDies,
                         ::testing::Values(Case{2, Fault::crash}, Case{2, Fault::kill},
                                           Case{3, Fault::crash}, Case{3, Fault::kill}));

class SaverErrors : public ::testing::TestWithParam<Case> {};

// What is told as written is there after a power cut.
TEST_P(SaverErrors, OnceIsTriedAgain) {
  Job job;
  job.plan.fault = GetParam().fault;
  job.retries = 1;
  for_every_operation(GetParam().ranks, job, [&](const Job& now, Disk& disk) {
    EXPECT_TRUE(save(disk, now).written);
    disk.files.arm(Fault::crash, 0);
    EXPECT_THROW(disk.files.sync_folder("nothing to sync: the power goes"), Error);
    disk.files.arm(Fault::none, -1);
    EXPECT_EQ(newest(disk), 20);
  });
}

TEST_P(SaverErrors, ThatStayAreToldAndTheLastGoodOneIsThere) {
  Job job;
  job.plan.fault = GetParam().fault;
  job.plan.always = true;
  job.retries = 1;
  bool saw_old = false, saw_told = false;
  for_every_operation(GetParam().ranks, job, [&](const Job& now, Disk& disk) {
    const Result result = save(disk, now);
    const i64 step = newest(disk);
    if (result.written) {
      EXPECT_EQ(step, 20);
    } else {
      EXPECT_THAT(result.error, HasSubstr(fmt::format("rank {}: ", now.plan.rank)));
      EXPECT_THAT(result.error, HasSubstr("No space left on device"));
      saw_told = true;
    }
    saw_old |= step == 10;
  });
  EXPECT_TRUE(saw_old);
  EXPECT_TRUE(saw_told);
}

TEST_P(SaverErrors, OfTheFirstPlaceLeadToTheSecond) {
  Job job;
  job.plan.fault = GetParam().fault;
  job.plan.always = true;
  job.plan.under = "run/";
  job.retries = 1;
  job.second = kSecond;
  bool saw_second = false;
  for_every_operation(GetParam().ranks, job, [&](const Job& now, Disk& disk) {
    disk.files.make_folder("other");
    EXPECT_TRUE(save(disk, now).written);
    EXPECT_EQ(newest(disk), 20);
    EXPECT_EQ(load_newest(disk.files, kFirst).has_value(), true);
    saw_second |= !checkpoint_steps(disk.files, kSecond).empty();
  });
  EXPECT_TRUE(saw_second);
}
INSTANTIATE_TEST_SUITE_P(Saver, SaverErrors,
                         ::testing::Values(Case{2, Fault::error}, Case{2, Fault::torn},
                                           Case{3, Fault::error}, Case{3, Fault::torn}));

// Steps are done while the disk does nothing at all; the checkpoint comes when it works again.
TEST(Saver, AHungDiskKeepsNoStepWaiting) {
  auto disk = disk_with_one(2);
  run_as_threads(2, [&](Communicator& ranks) {
    Model model(20);
    RankFiles files(*disk, ranks.rank(), {});
    SaverConfig config;
    config.first = kFirst;
    config.attempt = "1";
    Saver saver(files, ranks, *model.device, model.tensors, config);
    const auto hang = [&](bool on) {
      ranks.barrier();
      std::lock_guard<std::mutex> lock(disk->mutex);
      disk->hung = on;
      disk->changed.notify_all();
    };
    i64 step = 20;
    const auto do_step = [&] {   // as the trainer's loop does
      const Saver::Word mine = saver.word();
      double sums[2] = {mine.written, mine.failed};
      ranks.all_reduce({sums, DType::f64, {2}}, Reduce::sum);
      ++step;
      saver.note(step, step, {sums[0], sums[1]});
    };
    hang(true);
    saver.begin({20, R"({"step": 20})", {1, {}, 0}});
    for (i64 k = 0; k < 1000; ++k) do_step();
    EXPECT_TRUE(saver.busy());
    EXPECT_EQ(saver.totals().waited_s, 0);
    hang(false);
    while (saver.busy()) do_step();
    EXPECT_EQ(saver.last_step(), 20);
    EXPECT_EQ(saver.totals().waited_s, 0);
  });
  EXPECT_EQ(newest(*disk), 20);
}

}  // namespace
}  // namespace cohort
