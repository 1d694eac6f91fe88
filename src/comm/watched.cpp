#include "comm/watched.h"

#include <cstdlib>

namespace cohort {
namespace {

class MainWait {
 public:
  explicit MainWait(Status& status) : status_(status) { status_.wait_begins(); }
  ~MainWait() { status_.wait_ends(); }
  MainWait(const MainWait&) = delete;
  MainWait& operator=(const MainWait&) = delete;

 private:
  Status& status_;
};

class RowWait {
 public:
  explicit RowWait(Status& status) : status_(status) { status_.rows_wait(true); }
  ~RowWait() { status_.rows_wait(false); }
  RowWait(const RowWait&) = delete;
  RowWait& operator=(const RowWait&) = delete;

 private:
  Status& status_;
};

template <class Wait>
class WatchedRanks final : public Communicator {
 public:
  WatchedRanks(std::unique_ptr<Communicator> ranks, Status& status)
      : ranks_(std::move(ranks)), status_(status) {}
  int rank() const override { return ranks_->rank(); }
  int size() const override { return ranks_->size(); }
  void all_reduce(View data, Reduce op) override {
    const Wait wait(status_);
    ranks_->all_reduce(data, op);
  }
  void broadcast(void* data, i64 bytes, int root) override {
    const Wait wait(status_);
    ranks_->broadcast(data, bytes, root);
  }
  std::vector<std::string> all_gather(const std::string& mine) override {
    const Wait wait(status_);
    return ranks_->all_gather(mine);
  }
  void barrier() override {
    const Wait wait(status_);
    ranks_->barrier();
  }
  void exchange(const void* mine, void* theirs, i64 bytes, int peer) override {
    const Wait wait(status_);
    ranks_->exchange(mine, theirs, bytes, peer);
  }
  std::unique_ptr<Communicator> duplicate() override { return ranks_->duplicate(); }
  [[noreturn]] void abort(int exit_code) override {
    ranks_->abort(exit_code);
    std::_Exit(exit_code);   // never: for compilers that do not see it through the interface
  }

 private:
  std::unique_ptr<Communicator> ranks_;
  Status& status_;
};

class WatchedReducer final : public Reducer {
 public:
  WatchedReducer(std::unique_ptr<Reducer> reducer, Status& status)
      : reducer_(std::move(reducer)), status_(status) {}
  void submit(const View& range) override {
    status_.bucket_given();
    reducer_->submit(range);
  }
  void wait() override {
    const MainWait wait(status_);
    reducer_->wait();
  }
  void poll() override { reducer_->poll(); }
  void work_begins(WorkClock* clock, bool first) override { reducer_->work_begins(clock, first); }
  void work_ends() override { reducer_->work_ends(); }
  double waited_seconds() const override { return reducer_->waited_seconds(); }

 private:
  std::unique_ptr<Reducer> reducer_;
  Status& status_;
};

}  // namespace

std::unique_ptr<Communicator> watch_waits(std::unique_ptr<Communicator> ranks, Status& status) {
  return std::make_unique<WatchedRanks<MainWait>>(std::move(ranks), status);
}

std::unique_ptr<Communicator> watch_row_waits(std::unique_ptr<Communicator> ranks, Status& status) {
  return std::make_unique<WatchedRanks<RowWait>>(std::move(ranks), status);
}

std::unique_ptr<Reducer> watch_reducer(std::unique_ptr<Reducer> reducer, Status& status) {
  if (!reducer) return nullptr;
  return std::make_unique<WatchedReducer>(std::move(reducer), status);
}

}  // namespace cohort
