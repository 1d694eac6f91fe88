#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "base/text.h"
#include "comm/communicator.h"

namespace cohort {

struct CollectiveQueue::State {
  std::unique_ptr<Communicator> channel;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void(Communicator&)>> work;
  i64 submitted = 0, done = 0;
  bool closing = false;
  std::exception_ptr error;  // the first; later work is dropped
  i64 error_ticket = 0;
  std::thread thread;

  void loop() {
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [&] { return closing || !work.empty(); });
      if (work.empty()) return;
      auto job = std::move(work.front());
      work.pop_front();
      if (!error) {
        lock.unlock();
        std::exception_ptr thrown;
        try {
          job(*channel);
        } catch (...) {
          thrown = std::current_exception();
        }
        lock.lock();
        if (thrown) {
          error = thrown;
          error_ticket = done + 1;
        }
      }
      ++done;
      changed.notify_all();
    }
  }
};

CollectiveQueue::CollectiveQueue(std::unique_ptr<Communicator> channel)
    : state_(std::make_unique<State>()) {
  state_->channel = std::move(channel);
  state_->thread = std::thread([s = state_.get()] { s->loop(); });
}

CollectiveQueue::~CollectiveQueue() {
  {
    std::lock_guard lock(state_->mutex);
    state_->closing = true;
  }
  state_->changed.notify_all();
  state_->thread.join();
}

i64 CollectiveQueue::submit(std::function<void(Communicator&)> work) {
  std::lock_guard lock(state_->mutex);
  state_->work.push_back(std::move(work));
  state_->changed.notify_all();
  return ++state_->submitted;
}

void CollectiveQueue::submit(const View& range) {
  submit([range](Communicator& ranks) { ranks.all_reduce(range, Reduce::sum); });
}

void CollectiveQueue::wait() {
  const double before = seconds_now();
  i64 newest = 0;
  {
    const std::lock_guard lock(state_->mutex);
    newest = state_->submitted;
  }
  wait(newest);
  waited_ += seconds_now() - before;
}

void CollectiveQueue::wait(i64 ticket) {
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [&] { return state_->done >= ticket; });
  if (state_->error && state_->error_ticket <= ticket) std::rethrow_exception(state_->error);
}

}  // namespace cohort
