#include "exec.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <vector>

#include "executor.h"
#include "race.h"

__thread uint3 threadIdx;
__thread uint3 blockIdx;
__thread uint3 blockDim;
__thread uint3 gridDim;

namespace hg {
__thread Thread* current;

namespace {
constexpr std::size_t kSharedMemory = 256 * 1024;  // room for the canaries too
constexpr std::size_t kCanary = 64;
std::size_t round_up(std::size_t bytes) { return (bytes + 15) / 16 * 16; }
}  // namespace

__thread Executor* active_executor;

void fiber_entry(Fiber* self) {
  Executor* mine = active_executor;
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
  order_.resize(count);
  std::iota(order_.begin(), order_.end(), 0u);
  if (policy().order == Order::reverse) std::reverse(order_.begin(), order_.end());
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
  blocks_.resize(std::size_t{grid.x} * grid.y * grid.z);
  std::iota(blocks_.begin(), blocks_.end(), 0u);
  const Order order = policy().order;
  if (order == Order::reverse) std::reverse(blocks_.begin(), blocks_.end());
  if (order == Order::random) random_.shuffle(blocks_.data(), blocks_.data() + blocks_.size());
  for (const unsigned block : blocks_) {
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
  begun_ = 0;
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
  }
  if (policy().order == Order::random) random_.shuffle(order_.data(), order_.data() + order_.size());
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
  Thread* next = nullptr;
  if (!ready_.empty()) {
    next = ready_.back();
    ready_.pop_back();
  } else if (begun_ < threads_.size()) {
    next = take_fresh();
    start(take_fiber(), next);
  } else {
    deadlock();
  }
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
    if (!is_next_fresh()) return;
    start(self, take_fresh());
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
  active_executor = own_executor.get();
  own_executor->run(kernel);
}

void abandon_grid() {
  if (own_executor) own_executor->abandon();
}
}  // namespace hg
