// Watchdogs of ranks as threads: what they say when a rank hangs, is slow or falls silent.
#include "comm/watchdog.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "base/log.h"
#include "comm/watched.h"

namespace cohort {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;

// What the watchdogs of all ranks said; `ended` counts those that end their rank.
struct Said {
  std::mutex mutex;
  std::string text;
  std::atomic<int> ended{0};
  std::atomic<bool> warned{false};

  WatchConfig config(double step_timeout, double blame_every) {
    WatchConfig c;
    c.step_timeout = step_timeout;
    c.blame_every = blame_every;
    c.beat_every = 0.02;
    c.end = [this](const std::string& message, bool told) {
      const std::lock_guard lock(mutex);
      if (!told) text += message + "\n";
      ++ended;
    };
    c.say = [this](const std::string& message) {
      const std::lock_guard lock(mutex);
      text += message + "\n";
      warned = true;
    };
    return c;
  }
};

TEST(Watchdog, ARankThatHangsIsNamedAndAllEnd) {
  Said said;
  run_as_threads(3, [&](Communicator& c) {
    Status status;
    status.set_device("cpu");
    Watchdog watchdog(c, status);
    status.done(41);
    status.enter(Phase::compute);
    i64 read = 0;
    if (c.rank() == 1) {
      status.enter(Phase::rows);
      read = status.read_begins("train-007.h5");
    } else {
      status.wait_begins();
    }
    watchdog.watch(said.config(4, 0));   // a silent rank is one of 2 s
    while (said.ended < 3) std::this_thread::sleep_for(5ms);
    c.rank() == 1 ? status.read_ends(read) : status.wait_ends();
  });
  EXPECT_THAT(said.text, AllOf(HasSubstr("step 42 was not done in"), HasSubstr("rank 1 (host "),
                               HasSubstr(", cpu) is at step 42, waiting for rows, reading "
                                         "train-007.h5 for"),
                               HasSubstr("--resume")));
  EXPECT_EQ(std::count(said.text.begin(), said.text.end(), '\n'), 1) << said.text;
}

TEST(Watchdog, StepsThatAreDoneAreNoHang) {
  Said said;
  run_as_threads(2, [&](Communicator& c) {
    Status status;
    Watchdog watchdog(c, status);
    status.enter(Phase::compute);
    watchdog.watch(said.config(2, 0));
    for (int step = 1; step <= 220; ++step) {
      std::this_thread::sleep_for(10ms);
      status.done(step);
    }
  });
  EXPECT_EQ(said.ended, 0) << said.text;
}

TEST(Watchdog, OneRankAloneEndsToo) {
  Said said;
  const auto solo = make_solo();
  Status status;
  Watchdog watchdog(*solo, status);
  status.enter(Phase::compute);
  watchdog.watch(said.config(0.1, 0));
  while (said.ended < 1) std::this_thread::sleep_for(5ms);
  const std::lock_guard lock(said.mutex);
  EXPECT_THAT(said.text, AllOf(HasSubstr("rank 0 (host "), HasSubstr("computing")));
}

// A log file whose writes block: a pipe that is full, until it is read.
class BlockedLog {
 public:
  BlockedLog() : path_(testing::TempDir() + "/blocked_log_" + std::to_string(::getpid())) {
    EXPECT_EQ(::mkfifo(path_.c_str(), 0600), 0);
    pipe_ = ::open(path_.c_str(), O_RDWR | O_NONBLOCK);
    EXPECT_GE(pipe_, 0);
    log::open_file(path_);
    const std::string page(4096, 'x');
    while (::write(pipe_, page.data(), page.size()) > 0) {
    }
  }
  ~BlockedLog() {
    release();
    ::close(pipe_);
    ::unlink(path_.c_str());
  }
  BlockedLog(const BlockedLog&) = delete;
  BlockedLog& operator=(const BlockedLog&) = delete;
  void release() {
    std::atomic<bool> done{false};
    std::thread reader([&] {
      char page[4096];
      while (!done || ::read(pipe_, page, sizeof page) > 0) {
        if (::read(pipe_, page, sizeof page) <= 0) std::this_thread::sleep_for(1ms);
      }
    });
    log::flush();   // behind what was blocked
    log::open_file("/dev/null");
    done = true;
    reader.join();
  }

 private:
  std::string path_;
  int pipe_ = -1;
};

TEST(Watchdog, ALogFileThatHangsHoldsUpNoVerdict) {
  Said said;
  BlockedLog blocked;
  int ended = 0;
  run_as_threads(1, [&](Communicator& c) {
    Status status;
    Watchdog watchdog(c, status);
    status.read_begins(std::string(8192, 'f'));   // more than a file's buffer holds
    watchdog.watch(said.config(0.2, 0));
    for (int k = 0; said.ended == 0 && k < 4000; ++k) std::this_thread::sleep_for(5ms);
    ended = said.ended;   // before the watchdog is waited for
    if (ended == 0) blocked.release();   // it is stuck: let it go
  });
  EXPECT_EQ(ended, 1);
  EXPECT_THAT(said.text, HasSubstr("was not done in"));
}

TEST(Watchdog, ASlowRankIsNamed) {
  Said said;
  run_as_threads(3, [&](Communicator& c) {
    Status status;
    const auto channel = c.duplicate();
    const auto ranks = watch_waits(c.duplicate(), status);
    Watchdog watchdog(c, status);
    watchdog.watch(said.config(0, 0.3));
    i64 enough = 0;
    for (i64 step = 1; enough == 0; ++step) {
      status.enter(Phase::rows);
      const i64 read = status.read_begins("train-003.h5");
      if (c.rank() == 2) std::this_thread::sleep_for(20ms);
      status.read_ends(read);
      status.enter(Phase::compute);
      std::this_thread::sleep_for(1ms);
      ranks->barrier();
      status.done(step);
      enough = said.warned ? 1 : 0;
      channel->all_reduce(View{&enough, DType::i64, {1}}, Reduce::max);
    }
  });
  EXPECT_EQ(said.ended, 0);
  EXPECT_THAT(said.text, AllOf(HasSubstr("rank 2 (host "), HasSubstr("slower than the median"),
                               HasSubstr("reading train-003.h5")));
}

TEST(Status, SecondsGoWhereTheyBelong) {
  Status status;
  status.enter(Phase::rows);
  std::this_thread::sleep_for(20ms);
  status.rows_wait(true);   // the thread that prepares rows waits for other ranks
  std::this_thread::sleep_for(20ms);
  const Beat waits = status.look();
  status.rows_wait(false);
  status.enter(Phase::compute);
  status.rows_wait(true);   // beside compute this costs nothing
  std::this_thread::sleep_for(20ms);
  status.wait_begins();
  std::this_thread::sleep_for(20ms);
  status.wait_ends();
  status.enter(Phase::evaluation);
  std::this_thread::sleep_for(20ms);
  const Beat end = status.look();
  EXPECT_TRUE(waits.waiting);
  EXPECT_GE(waits.reading, 0.02);
  EXPECT_GE(waits.waited, 0.02);
  EXPECT_EQ(waits.compute, 0);
  EXPECT_EQ(end.reading + end.compute, status.busy_seconds());
  EXPECT_GE(end.compute, 0.02);
  EXPECT_GE(end.waited, 0.04);
  EXPECT_FALSE(end.waiting);
}

TEST(Status, AStepOrALongPhaseIsProgress) {
  Status status;
  status.done(1);
  status.enter(Phase::rows);
  std::this_thread::sleep_for(30ms);
  status.enter(Phase::compute);
  const double before = status.look().idle;
  EXPECT_GE(before, 0.03) << "a phase of a step is none";
  std::this_thread::sleep_for(300ms);
  status.enter(Phase::checkpoint);
  EXPECT_LT(status.look().idle, before + 0.3);
  std::this_thread::sleep_for(300ms);
  const double later = status.look().idle;
  EXPECT_GE(later, 0.3);
  status.done(2);
  EXPECT_LT(status.look().idle, later);
}

TEST(Status, TheFileReadMostIsTold) {
  Status status;
  const i64 a = status.read_begins("a.h5");
  status.read_ends(a);
  const i64 b = status.read_begins("b.h5");
  std::this_thread::sleep_for(20ms);
  status.read_ends(b);
  const Beat first = status.look();
  EXPECT_EQ(first.file, "b.h5");
  EXPECT_GE(first.file_seconds, 0.02);
  EXPECT_EQ(first.open_read, 0);
  const i64 c = status.read_begins("c.h5");
  std::this_thread::sleep_for(20ms);
  const i64 d = status.read_begins("d.h5");
  const Beat second = status.look();
  EXPECT_EQ(second.file, "c.h5") << "the oldest that is under way";
  EXPECT_GE(second.open_read, 0.02);
  status.read_ends(d);
  status.read_ends(c);
}

}  // namespace
}  // namespace cohort
