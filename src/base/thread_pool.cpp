#include "base/thread_pool.h"

#include <atomic>
#include <exception>
#include <thread>
#include <vector>

namespace cohort {
namespace {

// Waits until `value` differs from `old`: a short spin, because jobs are short, then the kernel.
int wait_for_change(std::atomic<int>& value, int old) {
  for (int spin = 0; spin < 2000; ++spin) {
    const int now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    if (spin % 64 == 63) std::this_thread::yield();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

}  // namespace

struct ThreadPool::State {
  int threads = 1;
  std::vector<std::thread> workers;
  std::vector<std::exception_ptr> errors;
  const std::function<void(int)>* job = nullptr;   // null at the end: stop
  std::atomic<int> round{0}, left{0};

  void work(int shard) {
    try {
      (*job)(shard);
    } catch (...) {
      errors[static_cast<std::size_t>(shard)] = std::current_exception();
    }
  }
  void serve(int shard) {
    for (int seen = 0;;) {
      seen = wait_for_change(round, seen);
      if (!job) return;
      work(shard);
      if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) left.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads, std::function<void(int)> on_start)
    : state_(std::make_unique<State>()) {
  state_->threads = threads < 1 ? 1 : threads;
  state_->errors.resize(static_cast<std::size_t>(state_->threads));
  if (on_start) on_start(0);
  State* state = state_.get();
  for (int shard = 1; shard < state->threads; ++shard) {
    state->workers.emplace_back([state, shard, on_start] {
      if (on_start) on_start(shard);
      state->serve(shard);
    });
  }
}

ThreadPool::~ThreadPool() {
  state_->job = nullptr;
  state_->round.fetch_add(1, std::memory_order_release);
  state_->round.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::threads() const { return state_->threads; }

void ThreadPool::run(const std::function<void(int)>& job) {
  State& s = *state_;
  s.job = &job;
  if (s.threads > 1) {
    s.left.store(s.threads - 1, std::memory_order_relaxed);
    s.round.fetch_add(1, std::memory_order_release);
    s.round.notify_all();
  }
  s.work(0);
  for (int left = s.threads > 1 ? s.left.load(std::memory_order_acquire) : 0; left > 0;)
    left = wait_for_change(s.left, left);
  for (std::exception_ptr& error : s.errors) {
    if (!error) continue;
    const std::exception_ptr first = error;
    for (std::exception_ptr& other : s.errors) other = nullptr;
    std::rethrow_exception(first);
  }
}

}  // namespace cohort
