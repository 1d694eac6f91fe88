// Runs the grids of one host thread, block after block.
#pragma once
#include <vector>

#include "exec.h"
#include "fiber.h"
#include "random.h"
#include "warp.h"

namespace hg {
constexpr int kMaxStatics = 64;
constexpr int kRacePools = 3;  // creating a ThreadSanitizer fiber costs 0.1 ms: they take turns

struct StaticShared {
  const void* key;
  char* at;
  std::size_t bytes;
};

class Executor {
 public:
  Executor();
  ~Executor();
  void run(const Kernel& kernel);
  void abandon();
  void wait_here();
  bool everyone_waits(int predicate);
  void wake_all();
  Thread* lanes_of(const Thread* thread) { return &threads_[thread->linear - thread->lane]; }
  unsigned lanes_in(const Thread* first) const;
  Warp& warp_of(const Thread* thread) { return warps_[thread->linear / 32]; }
  void wake_lanes(Thread* first, unsigned mask);
  void* static_memory(const void* key, std::size_t bytes, std::size_t alignment);
  void* dynamic_memory() { return shared_; }

  const char* barrier_tag(unsigned generation) const { return tag(1 + generation % 2); }
  unsigned generation() const { return generation_; }
  unsigned alive() const { return alive_; }
  unsigned size() const { return static_cast<unsigned>(threads_.size()); }
  int votes(unsigned generation) const { return votes_[generation % 2]; }

 private:
  void prepare(const Kernel& kernel);
  void run_block(uint3 index);
  void order_ready(std::size_t from);
  Fiber* next_fiber();
  Fiber* take_fiber();
  bool is_next_fresh() const { return ready_.empty() && begun_ < threads_.size(); }
  Thread* take_fresh() { return &threads_[order_[begun_++]]; }
  void start(Fiber* fiber, Thread* thread);
  void run_threads(Fiber* self);
  [[noreturn]] void deadlock();
  void poison(char* at, std::size_t bytes, unsigned char value);
  void check_canaries();
  const char* tag(unsigned kind) const;

  const Kernel* kernel_ = nullptr;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<unsigned> blocks_;  // a member: a fault jumps over what is on the stack
  std::vector<unsigned> order_;  // in which the threads of a block begin
  std::size_t begun_ = 0;        // how many of them did
  std::vector<Thread*> ready_;   // waited and can go on: the last is next, before fresh ones
  std::vector<Fiber*> all_;
  std::vector<Fiber*> idle_;
  Fiber home_;  // the host thread
  Random random_;
  unsigned alive_ = 0;
  unsigned waiting_ = 0;
  unsigned generation_ = 0;  // of the barrier
  int vote_ = 0;
  int votes_[2] = {};
  char* shared_ = nullptr;
  std::size_t shared_used_ = 0;
  StaticShared statics_[kMaxStatics];
  int static_count_ = 0;
  void* home_race_ = nullptr;
  std::vector<void*> race_[kRacePools];
  unsigned block_number_ = 0;
  unsigned grid_number_ = 0;
  char tags_[4 * 8192 * 8];

  friend void fiber_entry(Fiber* self);
};

extern __thread Executor* active_executor HG_FAST_TLS;
}  // namespace hg
