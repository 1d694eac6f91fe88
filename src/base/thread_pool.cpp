#include "base/thread_pool.h"

#include <atomic>
#include <exception>
#include <thread>
#include <vector>

#include "base/env.h"
#include "base/error.h"
#include "base/types.h"

namespace cohort {
namespace {

void pause_once() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Waits until `value` differs from `old`: a short spin, because jobs are about 100 us, then a
// futex.
u32 wait_change(const std::atomic<u32>& value, u32 old, int spins) {
  for (int i = 0; i < spins; ++i) {
    const u32 now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    if (i % 64 == 63) {
      std::this_thread::yield();  // other ranks may share this core
    } else {
      pause_once();
    }
  }
  u32 now = value.load(std::memory_order_acquire);
  while (now == old) {
    value.wait(old, std::memory_order_acquire);
    now = value.load(std::memory_order_acquire);
  }
  return now;
}

}  // namespace

struct ThreadPool::State {
  int threads = 1;
  int spins = 0;
  const std::function<void(int)>* job = nullptr;
  std::vector<std::exception_ptr> errors;  // one per shard
  bool stop = false;                       // published by `round`
  alignas(64) std::atomic<u32> round{0};
  alignas(64) std::atomic<u32> left{0};
  std::vector<std::thread> workers;

  void shard(int index) {
    try {
      (*job)(index);
    } catch (...) {
      errors[static_cast<std::size_t>(index)] = std::current_exception();
    }
  }

  void worker(int index) {
    u32 seen = 0;
    while (true) {
      seen = wait_change(round, seen, spins);
      if (stop) return;
      shard(index);
      if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) left.notify_one();
    }
  }

  void run(const std::function<void(int)>& work) {
    job = &work;
    for (std::exception_ptr& error : errors) error = nullptr;
    left.store(static_cast<u32>(threads - 1), std::memory_order_relaxed);
    round.fetch_add(1, std::memory_order_release);
    if (threads > 1) round.notify_all();
    shard(0);
    for (u32 now = left.load(std::memory_order_acquire); now != 0;) {
      now = wait_change(left, now, spins);
    }
    job = nullptr;
    for (const std::exception_ptr& error : errors) {
      if (error) std::rethrow_exception(error);
    }
  }

  void end() {
    stop = true;
    round.fetch_add(1, std::memory_order_release);
    round.notify_all();
    for (std::thread& thread : workers) thread.join();
    workers.clear();
  }
};

ThreadPool::ThreadPool(int threads, std::function<void(int)> on_start)
    : state_(std::make_unique<State>()) {
  COHORT_CHECK(threads >= 1, "a thread pool needs at least one thread");
  State& s = *state_;
  s.threads = threads;
  s.spins = threads <= usable_cores() ? 2000 : 0;  // with too few cores a spin steals from others
  s.errors.resize(static_cast<std::size_t>(threads));
  try {
    for (int i = 1; i < threads; ++i) s.workers.emplace_back([&s, i] { s.worker(i); });
    if (on_start) s.run(on_start);
  } catch (...) {
    s.end();
    throw;
  }
}

ThreadPool::~ThreadPool() { state_->end(); }

int ThreadPool::threads() const { return state_->threads; }

void ThreadPool::run(const std::function<void(int)>& job) { state_->run(job); }

}  // namespace cohort
