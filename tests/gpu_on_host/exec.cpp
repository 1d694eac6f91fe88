#include "exec.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <vector>

#include "fiber.h"
#include "race.h"
#include "random.h"
#include "warp.h"

__thread uint3 threadIdx;
__thread uint3 blockIdx;
__thread uint3 blockDim;
__thread uint3 gridDim;

namespace hg {
__thread Thread* current;

namespace {
constexpr std::size_t kSharedMemory = 256 * 1024;  // room for the canaries too
constexpr std::size_t kCanary = 64;
constexpr int kMaxStatics = 64;
constexpr int kRacePools = 3;  // creating a ThreadSanitizer fiber costs 0.1 ms: they take turns

struct StaticShared {
  const void* key;
  char* at;
  std::size_t bytes;
};
}  // namespace

// Runs the grids of one host thread, block after block.
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
  void start(Fiber* fiber, Thread* thread);
  void run_threads(Fiber* self);
  [[noreturn]] void deadlock();
  void poison(char* at, std::size_t bytes, unsigned char value);
  void check_canaries();
  const char* tag(unsigned kind) const;

  const Kernel* kernel_ = nullptr;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<Thread*> ready_;  // the last is next
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

static __thread Executor* active HG_FAST_TLS;
static std::size_t round_up(std::size_t bytes) { return (bytes + 15) / 16 * 16; }

void fiber_entry(Fiber* self) {
  Executor* mine = active;
  for (;;) {
    mine->run_threads(self);
    mine->idle_.push_back(self);
    switch_fiber(self, mine->next_fiber());
  }
}

Executor::Executor() {
  void* memory = mmap(nullptr, kSharedMemory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);
  if (memory == MAP_FAILED) die("no memory for shared memory");
  shared_ = static_cast<char*>(memory);
  ready_.reserve(2048);  // nothing allocates on a fiber
  idle_.reserve(2048);
  all_.reserve(2048);
}

Executor::~Executor() {
  abandon();
  munmap(shared_, kSharedMemory);
}

void Executor::abandon() {
  for (Fiber* fiber : all_) delete_fiber(fiber);
  all_.clear();
  idle_.clear();
  current = nullptr;
}

// Different for each block (kinds 0 to 2) or grid (3): a shared one would order what is not ordered.
const char* Executor::tag(unsigned kind) const {
  const unsigned number = (kind == 3 ? grid_number_ : block_number_) % 8192;
  return &tags_[(number * 4 + kind) * 8];
}

void Executor::prepare(const Kernel& kernel) {
  kernel_ = &kernel;
  const dim3 block = kernel.block;
  const unsigned count = block.x * block.y * block.z;
  threads_.resize(count);
  warps_.resize((count + 31) / 32);
  for (unsigned i = 0; i < count; ++i) {
    Thread& thread = threads_[i];
    thread.index = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
    thread.linear = i;
    thread.lane = i % 32;
  }
  random_.state = policy().seed * 1000003ull + grid_number_;
  ++grid_number_;
  blockDim = {block.x, block.y, block.z};
  gridDim = {kernel.grid.x, kernel.grid.y, kernel.grid.z};
  if (!kRaceCheck) return;
  home_race_ = race_here();
  while (all_.size() < count) idle_.push_back(all_.emplace_back(new_fiber(fiber_entry)));
  for (auto& pool : race_) {
    while (pool.size() < count) pool.push_back(race_new());
  }
}

void Executor::run(const Kernel& kernel) {
  prepare(kernel);
  const dim3 grid = kernel.grid;
  std::vector<unsigned> blocks(std::size_t{grid.x} * grid.y * grid.z);
  std::iota(blocks.begin(), blocks.end(), 0u);
  const Order order = policy().order;
  if (order == Order::reverse) std::reverse(blocks.begin(), blocks.end());
  if (order == Order::random) random_.shuffle(blocks.data(), blocks.data() + blocks.size());
  for (const unsigned block : blocks) {
    run_block({block % grid.x, block / grid.x % grid.y, block / (grid.x * grid.y)});
  }
  race_acquire(tag(3));
}

void Executor::run_block(uint3 index) {
  blockIdx = index;
  alive_ = size();
  waiting_ = 0;
  vote_ = 0;
  static_count_ = 0;
  ready_.clear();
  if (kRaceCheck) {  // new pages have no history: blocks do not share them
    mmap(shared_, kSharedMemory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
         0);
  }
  const std::size_t dynamic = round_up(kernel_->shared_bytes);
  poison(shared_, dynamic, 0xff);
  poison(shared_ + kernel_->shared_bytes, dynamic + kCanary - kernel_->shared_bytes, 0xa5);
  shared_used_ = dynamic + kCanary;
  for (Warp& warp : warps_) warp.reset();
  for (Thread& thread : threads_) {
    thread.state = ThreadState::fresh;
    if (kRaceCheck) thread.race = race_[block_number_ % kRacePools][thread.linear];
    ready_.push_back(&thread);
  }
  order_ready(0);
  race_release(tag(0));
  switch_fiber(&home_, next_fiber());
  current = nullptr;
  check_canaries();
  ++block_number_;
}

// What was pushed in ascending order from `from` on: the last is next.
void Executor::order_ready(std::size_t from) {
  Thread** first = ready_.data() + from;
  Thread** last = ready_.data() + ready_.size();
  const Order order = policy().order;
  if (order == Order::forward) std::reverse(first, last);
  if (order == Order::random) random_.shuffle(first, last);
}

Fiber* Executor::take_fiber() {
  if (idle_.empty()) return all_.emplace_back(new_fiber(fiber_entry));
  Fiber* fiber = idle_.back();
  idle_.pop_back();
  return fiber;
}

void Executor::start(Fiber* fiber, Thread* thread) {
  thread->fiber = fiber;
  fiber->thread = thread;
}

// Where to go when the present thread waits or is done.
Fiber* Executor::next_fiber() {
  if (alive_ == 0) {
    race_switch(home_race_);
    return &home_;
  }
  if (ready_.empty()) deadlock();
  Thread* next = ready_.back();
  ready_.pop_back();
  if (next->state == ThreadState::fresh) start(take_fiber(), next);
  race_switch(next->race);
  return next->fiber;
}

// A thread that never waits hands its stack to the next: kernels without barriers do not switch.
void Executor::run_threads(Fiber* self) {
  for (;;) {
    Thread* thread = self->thread;
    current = thread;
    thread->state = ThreadState::ready;
    threadIdx = thread->index;
    race_acquire(tag(0));
    kernel_->invoke(kernel_->arguments.get());
    race_release(tag(3));
    thread->state = ThreadState::done;
    --alive_;
    if (ready_.empty() || ready_.back()->state != ThreadState::fresh) return;
    start(self, ready_.back());
    ready_.pop_back();
    race_switch(self->thread->race);
  }
}

void Executor::wait_here() {
  Thread* me = current;
  Fiber* next = next_fiber();
  if (next != me->fiber) switch_fiber(me->fiber, next);
  current = me;
  threadIdx = me->index;
}

void Executor::deadlock() {
  unsigned at_barrier = 0;
  unsigned in_warp = 0;
  for (const Thread& thread : threads_) {
    at_barrier += thread.state == ThreadState::at_barrier;
    in_warp += thread.state == ThreadState::in_warp;
  }
  die("deadlock: %u threads wait at __syncthreads, %u in a warp operation, %u of %u have returned",
      at_barrier, in_warp, size() - alive_, size());
}

bool Executor::everyone_waits(int predicate) {
  vote_ += predicate != 0;
  return ++waiting_ == alive_;
}

void Executor::wake_all() {
  votes_[generation_ % 2] = vote_;
  vote_ = 0;
  waiting_ = 0;
  ++generation_;
  for (Thread& thread : threads_) {
    thread.state = ThreadState::ready;
    ready_.push_back(&thread);
  }
  order_ready(0);
}

unsigned Executor::lanes_in(const Thread* first) const {
  return std::min(32u, static_cast<unsigned>(threads_.size()) - first->linear);
}

void Executor::wake_lanes(Thread* first, unsigned mask) {
  const std::size_t from = ready_.size();
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1)) continue;
    first[lane].state = ThreadState::ready;
    ready_.push_back(&first[lane]);
  }
  order_ready(from);
}

void Executor::poison(char* at, std::size_t bytes, unsigned char value) {
  volatile char* to = at;  // not memset: ThreadSanitizer would see it as the thread's
  if (!kRaceCheck) {
    std::fill_n(at, bytes, static_cast<char>(value));
    return;
  }
  for (std::size_t i = 0; i < bytes; ++i) to[i] = static_cast<char>(value);
}

void* Executor::static_memory(const void* key, std::size_t bytes, std::size_t alignment) {
  for (int i = 0; i < static_count_; ++i) {
    if (statics_[i].key == key) return statics_[i].at;
  }
  shared_used_ = (shared_used_ + alignment - 1) / alignment * alignment;
  std::size_t total = bytes;
  for (int i = 0; i < static_count_; ++i) total += statics_[i].bytes;
  if (total > kStaticSharedLimit) {
    die("%zu bytes of static shared memory, at most %zu", total, kStaticSharedLimit);
  }
  if (static_count_ == kMaxStatics) die("more than %d static shared arrays", kMaxStatics);
  char* at = shared_ + shared_used_;
  poison(at, bytes, 0xff);
  poison(at + bytes, kCanary, 0xa5);
  shared_used_ += bytes + kCanary;
  statics_[static_count_++] = {key, at, bytes};
  return at;
}

void Executor::check_canaries() {
  if (kRaceCheck) return;
  const auto intact = [](const char* at) {
    return std::all_of(at, at + kCanary, [](char c) { return c == static_cast<char>(0xa5); });
  };
  bool ok = intact(shared_ + round_up(kernel_->shared_bytes));
  for (int i = 0; i < static_count_; ++i) ok = ok && intact(statics_[i].at + statics_[i].bytes);
  if (!ok) {
    die("kernel %s, block (%u,%u,%u): write past the end of shared memory",
        kernel_name(kernel_->function).c_str(), blockIdx.x, blockIdx.y, blockIdx.z);
  }
}

static thread_local std::unique_ptr<Executor> own_executor;

void run_grid(const Kernel& kernel) {
  if (!own_executor) own_executor = std::make_unique<Executor>();
  active = own_executor.get();
  own_executor->run(kernel);
}

void abandon_grid() {
  if (own_executor) own_executor->abandon();
}

int barrier_vote(Vote vote, int predicate) {
  Executor* mine = active;
  if (!current) die("__syncthreads outside a kernel");
  if (mine->alive() != mine->size()) {
    die("__syncthreads after other threads of the block have returned");
  }
  const unsigned generation = mine->generation();
  // Two tags in turn: with one a read before the barrier would seem ordered with a later write.
  race_release(mine->barrier_tag(generation));
  current->state = ThreadState::at_barrier;
  if (mine->everyone_waits(predicate)) mine->wake_all();
  mine->wait_here();
  race_acquire(mine->barrier_tag(generation));
  const int yes = mine->votes(generation);
  if (vote == Vote::count) return yes;
  return vote == Vote::any ? yes > 0 : yes == static_cast<int>(mine->size());
}

void barrier() { barrier_vote(Vote::any, 0); }

static const unsigned long long* meet(unsigned mask, unsigned long long value) {
  Executor* mine = active;
  Thread* me = current;
  if (!me) die("warp operation outside a kernel");
  if (!(mask >> me->lane & 1)) {
    die("warp operation: own lane %u is missing from mask %08x", me->lane, mask);
  }
  Thread* first = mine->lanes_of(me);
  const unsigned lanes = mine->lanes_in(first);
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1)) continue;
    if (lane >= lanes || first[lane].state == ThreadState::done) {
      die("warp operation: mask %08x names lane %u, which %s", mask, lane,
          lane >= lanes ? "does not exist" : "has returned");
    }
  }
  Rendezvous& meeting = mine->warp_of(me).of(mask);
  const unsigned long long* values = meeting.arrive(me->lane, value);
  me->state = ThreadState::in_warp;
  if (meeting.complete()) mine->wake_lanes(first, mask);
  mine->wait_here();
  return values;
}

const unsigned long long* warp_exchange(unsigned mask, unsigned long long value) {
  return meet(mask, value);
}

void warp_sync(unsigned mask) {
  if (!current) die("__syncwarp outside a kernel");
  const void* tag = &active->warp_of(current);
  race_release(tag);
  meet(mask, 0);
  race_acquire(tag);
}

void fence() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  static const char tag = 0;
  race_acquire(&tag);
  race_release(&tag);
}

void* dynamic_shared() { return active->dynamic_memory(); }

void* static_shared(const void* key, std::size_t bytes, std::size_t alignment) {
  return active->static_memory(key, bytes, alignment);
}
}  // namespace hg
