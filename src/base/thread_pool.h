// A fixed set of worker threads running fixed shards of one job. The number of shards is part of
// the result (a reduction sums per shard, then over shards in order), so it never varies by load.
#pragma once
#include <functional>
#include <memory>

namespace cohort {

class ThreadPool {
 public:
  // threads >= 1; the caller is one of them. `on_start` runs once in every thread, the caller too.
  explicit ThreadPool(int threads, std::function<void(int)> on_start = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;
  // Runs job(shard) for every shard in [0, threads()) and returns when all are done. The first
  // exception (lowest shard) is rethrown. Not reentrant.
  void run(const std::function<void(int)>& job);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cohort
