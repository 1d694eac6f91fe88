// Ranks as threads of one process: a barrier and pointers to each rank's buffer. Every rank sums
// its own slice of the elements over ranks 0..N-1 in order, so the result never depends on timing.
#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "comm/communicator.h"

namespace cohort {
namespace {

// Shared by all channels of one run: whether some rank has failed.
struct Fate {
  std::mutex mutex;
  std::condition_variable changed;
  int failed_rank = -1;
};

struct Shared {
  Shared(int ranks, std::shared_ptr<Fate> fate_in)
      : size(ranks), fate(std::move(fate_in)), buffers(static_cast<std::size_t>(ranks)),
        texts(static_cast<std::size_t>(ranks)), posts(static_cast<std::size_t>(ranks)) {}
  int size;
  std::shared_ptr<Fate> fate;
  int arrived = 0;
  u64 round = 0;
  std::vector<void*> buffers;
  std::vector<const std::string*> texts;
  struct Post {  // what a rank offers to another in exchange()
    int to = -1;
    const void* data = nullptr;
    bool taken = false;
  };
  std::vector<Post> posts;  // by rank
  std::vector<u8> result;
  std::shared_ptr<Shared> child;  // the channel being duplicated

  // The last to arrive runs `action` before anyone goes on.
  template <class F>
  void meet(F&& action) {
    std::unique_lock lock(fate->mutex);
    check();
    const u64 mine = round;
    if (++arrived == size) {
      action();
      arrived = 0;
      ++round;
      fate->changed.notify_all();
      return;
    }
    fate->changed.wait(lock, [&] { return round != mine || fate->failed_rank >= 0; });
    if (round == mine) check();
  }
  void meet() {
    meet([] {});
  }
  void check() const {
    if (fate->failed_rank >= 0) {
      fail(Exit::lost, "rank {} failed: this rank cannot go on", fate->failed_rank);
    }
  }
};

template <class T>
T combine(T a, T b, Reduce op) {
  switch (op) {
    case Reduce::sum: return static_cast<T>(a + b);
    case Reduce::max: return std::max(a, b);
    case Reduce::min: return std::min(a, b);
  }
  return a;
}

// Elements [begin, end) of all ranks' buffers, combined in rank order, into shared.result.
template <class T>
void reduce_slice(Shared& shared, i64 begin, i64 end, Reduce op) {
  T* out = reinterpret_cast<T*>(shared.result.data());
  for (i64 i = begin; i < end; ++i) {
    T value = static_cast<const T*>(shared.buffers[0])[i];
    for (std::size_t r = 1; r < shared.buffers.size(); ++r) {
      value = combine(value, static_cast<const T*>(shared.buffers[r])[i], op);
    }
    out[i] = value;
  }
}

class ThreadRank final : public Communicator {
 public:
  ThreadRank(int rank, std::shared_ptr<Shared> shared) : rank_(rank), shared_(std::move(shared)) {}
  int rank() const override { return rank_; }
  int size() const override { return shared_->size; }

  void all_reduce(View data, Reduce op) override {
    Shared& s = *shared_;
    const i64 n = data.count();
    s.buffers[index()] = data.data;
    s.meet([&] { s.result.resize(static_cast<std::size_t>(data.bytes())); });
    const i64 begin = n * rank_ / s.size, end = n * (rank_ + 1) / s.size;
    switch (data.dtype) {
      case DType::f32: reduce_slice<float>(s, begin, end, op); break;
      case DType::f64: reduce_slice<double>(s, begin, end, op); break;
      case DType::i64: reduce_slice<i64>(s, begin, end, op); break;
      default: fail(Exit::usage, "all_reduce of {} is not supported", name_of(data.dtype));
    }
    s.meet();
    if (data.bytes() > 0) {
      std::memcpy(data.data, s.result.data(), static_cast<std::size_t>(data.bytes()));
    }
    s.meet();
  }

  void broadcast(void* data, i64 bytes, int root) override {
    Shared& s = *shared_;
    s.buffers[index()] = data;
    s.meet();
    if (rank_ != root && bytes > 0) {
      std::memcpy(data, s.buffers[static_cast<std::size_t>(root)], static_cast<std::size_t>(bytes));
    }
    s.meet();
  }

  std::vector<std::string> all_gather(const std::string& mine) override {
    Shared& s = *shared_;
    s.texts[index()] = &mine;
    s.meet();
    std::vector<std::string> all;
    for (const std::string* text : s.texts) all.push_back(*text);
    s.meet();
    return all;
  }

  void barrier() override { shared_->meet(); }

  void exchange(const void* mine, void* theirs, i64 bytes, int peer) override {
    Shared& s = *shared_;
    std::unique_lock lock(s.fate->mutex);
    Shared::Post& here = s.posts[index()];
    Shared::Post& there = s.posts.at(static_cast<std::size_t>(peer));
    const auto wait = [&](auto&& ready) {
      s.fate->changed.wait(lock, [&] { return ready() || s.fate->failed_rank >= 0; });
      if (!ready()) s.check();
    };
    here = {peer, mine, false};
    s.fate->changed.notify_all();
    wait([&] { return there.to == rank_ && !there.taken; });
    if (bytes > 0) std::memcpy(theirs, there.data, static_cast<std::size_t>(bytes));
    there.taken = true;
    s.fate->changed.notify_all();
    wait([&] { return here.taken; });
    here = {};
  }

  std::unique_ptr<Communicator> duplicate() override {
    Shared& s = *shared_;
    s.meet([&] { s.child = std::make_shared<Shared>(s.size, s.fate); });
    auto child = s.child;
    s.meet();
    return std::make_unique<ThreadRank>(rank_, child);
  }

  [[noreturn]] void abort(int exit_code) override { std::_Exit(exit_code); }

 private:
  std::size_t index() const { return static_cast<std::size_t>(rank_); }
  int rank_;
  std::shared_ptr<Shared> shared_;
};

}  // namespace

void run_as_threads(int ranks, const std::function<void(Communicator&)>& body) {
  COHORT_CHECK(ranks >= 1, "run_as_threads needs at least one rank");
  auto fate = std::make_shared<Fate>();
  auto shared = std::make_shared<Shared>(ranks, fate);
  std::exception_ptr first;
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      try {
        ThreadRank communicator(r, shared);
        body(communicator);
      } catch (...) {
        std::lock_guard lock(fate->mutex);
        if (fate->failed_rank < 0) {
          fate->failed_rank = r;
          first = std::current_exception();
        }
        fate->changed.notify_all();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace cohort
