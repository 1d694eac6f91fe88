#include "schedule.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <unordered_set>

#include "fault.h"
#include "memory.h"
#include "race.h"

namespace hg {
namespace {
// In the race check every operation is a thread of its own, ordered by its dependencies only.
class LogicalThread {
 public:
  explicit LogicalThread(const OpPtr& op) : op_(op.get()) {
    if (!kRaceCheck) return;
    home_ = race_here();
    self_ = race_new();
    race_switch(self_);
    race_acquire(op_);
    for (const OpPtr& before : op->before) race_acquire(before.get());
  }
  ~LogicalThread() {
    if (!kRaceCheck) return;
    race_release(op_);
    race_switch(home_);
    race_delete(self_);
  }
  LogicalThread(const LogicalThread&) = delete;
  LogicalThread& operator=(const LogicalThread&) = delete;

 private:
  const Op* op_;
  void* home_ = nullptr;
  void* self_ = nullptr;
};

using Wanted = std::unordered_set<const Op*>;

void add_closure(const OpPtr& op, Wanted& wanted) {
  std::vector<const Op*> open{op.get()};
  while (!open.empty()) {
    const Op* next = open.back();
    open.pop_back();
    if (!next || next->state == OpState::done || !wanted.insert(next).second) continue;
    for (const OpPtr& before : next->before) open.push_back(before.get());
  }
}

// With the lock held. Null when all that is wanted waits for what another host thread runs.
OpPtr choose(const Wanted& wanted, const bool (&devices)[kMaxDevices]) {
  Runtime& all = runtime();
  const When when = policy().when;
  std::vector<OpPtr> needed;
  std::vector<OpPtr> extra;
  for (const OpPtr& op : all.runnable) {
    const bool is_wanted = wanted.count(op.get()) > 0;
    if (is_wanted || (when == When::random && devices[op->device])) {
      (is_wanted ? needed : extra).push_back(op);
    }
  }
  if (!extra.empty() && !needed.empty() && all.random.below(2)) {
    return extra[all.random.below(static_cast<std::uint32_t>(extra.size()))];
  }
  if (needed.empty()) return nullptr;
  if (when == When::eager) return needed.front();
  if (when == When::lazy) return needed.back();
  return needed[all.random.below(static_cast<std::uint32_t>(needed.size()))];
}

bool finished(const std::vector<OpPtr>& targets) {
  return std::all_of(targets.begin(), targets.end(),
                     [](const OpPtr& op) { return !op || op->state == OpState::done; });
}

// Opens the memory of a device at the first operation, for the whole run.
struct Opened {
  std::unique_ptr<Open> of[kMaxDevices];
  void add(int device) {
    if (!of[device]) of[device] = std::make_unique<Open>(device);
  }
};

void make_runnable(const OpPtr& op) {
  auto& runnable = runtime().runnable;
  const auto older = [](const OpPtr& a, const OpPtr& b) { return a->number < b->number; };
  runnable.insert(std::upper_bound(runnable.begin(), runnable.end(), op, older), op);
}

void finish(const OpPtr& op) {
  op->state = OpState::done;
  for (const OpPtr& after : op->after) {
    if (--after->missing == 0) make_runnable(after);
  }
  op->after.clear();
  if (kRaceCheck) {
    static auto& kept = *new std::vector<OpPtr>;  // their addresses are tags: never reused
    kept.push_back(op);
  } else {
    op->work.run = nullptr;
    op->before.clear();
  }
  runtime().changed.notify_all();
}

void execute(const OpPtr& op, Opened& opened, std::unique_lock<std::mutex>& lock) {
  auto& runnable = runtime().runnable;
  runnable.erase(std::find(runnable.begin(), runnable.end(), op));
  op->state = OpState::running;
  lock.unlock();
  opened.add(op->device);
  {
    LogicalThread thread(op);
    perform(op->device, op->work);
  }
  lock.lock();
  finish(op);
}
}  // namespace

Runtime& runtime() {
  static Runtime& only = *new Runtime;  // outlives the threads that run device work
  return only;
}

void perform(int device, const Work& work) {
  if (sticky_error(device)) return;
  if (policy().trace) std::fprintf(stderr, "gpu_on_host: device %d: %s\n", device, work.what.c_str());
  if (run_guarded(work.what, work.run)) {
    if (!kRaceCheck) check_ends(device, work.what);  // its lock would order what is not ordered
  } else {
    set_sticky(device, cudaErrorIllegalAddress);
  }
}

void run_until(const std::vector<OpPtr>& targets) {
  Runtime& all = runtime();
  Opened opened;
  std::unique_lock lock(all.mutex);
  Wanted wanted;
  bool devices[kMaxDevices] = {};
  for (const OpPtr& target : targets) {
    if (!target) continue;
    add_closure(target, wanted);
    devices[target->device] = true;
  }
  while (!finished(targets)) {
    const OpPtr op = choose(wanted, devices);
    if (!op) {
      all.changed.wait(lock);
      continue;
    }
    execute(op, opened, lock);
  }
}

void wait_for(const std::vector<OpPtr>& targets) {
  run_until(targets);
  for (const OpPtr& target : targets) {
    if (target) race_acquire(target.get());
  }
}

void run_device(int device) {
  std::vector<OpPtr> targets;
  {
    std::lock_guard lock(runtime().mutex);
    for (cudaStream_t stream : runtime().streams) {
      if (stream->device == device) targets.push_back(stream->last);
    }
  }
  wait_for(targets);
}

OpPtr append_op(cudaStream_t stream, Work work, const OpPtr& also_before) {
  Runtime& all = runtime();
  auto op = std::make_shared<Op>();
  op->work = std::move(work);
  op->device = stream->device;
  op->number = ++all.ops;
  race_release(op.get());  // what the host did so far comes before
  for (const OpPtr& before : {stream->last, also_before}) {
    if (!before) continue;
    const bool is_done = before->state == OpState::done;
    if (kRaceCheck || !is_done) op->before.push_back(before);
    if (is_done) continue;
    before->after.push_back(op);
    ++op->missing;
  }
  stream->last = op;
  if (op->missing == 0) make_runnable(op);
  return op;
}

cudaError_t enqueue_work(cudaStream_t stream, Work work, const OpPtr& also_before, OpPtr* made) {
  check_stream(stream, work.what.c_str());
  OpPtr op;
  {
    std::lock_guard lock(runtime().mutex);
    if (const cudaError_t error = sticky_error(stream->device)) return set_error(error);
    if (Capture* capture = stream->capture.get()) {
      if (capture->invalid) return set_error(cudaErrorStreamCaptureInvalidated);
      capture->nodes.push_back(
          {std::move(work), {stream->frontier.begin(), stream->frontier.end()}});
      stream->frontier = {static_cast<int>(capture->nodes.size()) - 1};
      return cudaSuccess;
    }
    op = append_op(stream, std::move(work), also_before);
  }
  if (made) *made = op;
  if (policy().when == When::eager) run_until({op});
  return set_error(cudaSuccess);
}

cudaError_t enqueue(cudaStream_t stream, std::string what, std::function<void()> work) {
  return enqueue_work(stream, {std::move(what), std::move(work)});
}

// A thread for every operation that can run and that nobody runs: one may wait for another rank.
static void progress() {
  constexpr auto kPause = std::chrono::milliseconds(20);
  for (;;) {
    std::this_thread::sleep_for(kPause);
    std::vector<OpPtr> runnable;
    {
      std::lock_guard lock(runtime().mutex);
      runnable = runtime().runnable;
    }
    for (const OpPtr& op : runnable) std::thread([op] { run_until({op}); }).detach();
  }
}

void progress_thread() {
  static std::once_flag once;
  std::call_once(once, [] { std::thread(progress).detach(); });
}
}  // namespace hg
