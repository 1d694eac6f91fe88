#include "train/feed.h"

#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/text.h"
#include "data/row_union.h"

namespace cohort {
namespace {

constexpr i64 depth = 2;

std::vector<i32> ids_of(const BatchColumn& column) {
  std::vector<i32> ids(column.data.size() / 4);
  std::memcpy(ids.data(), column.data.data(), ids.size() * 4);
  return ids;
}

}  // namespace

struct Feed::State {
  Options options;
  std::unique_ptr<Communicator> channel;
  std::unique_ptr<Loader> loader;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<FeedItem> ready;
  std::exception_ptr error;
  i64 made = 0, taken = 0;
  bool stop = false;
  std::thread thread;

  FeedItem make() {
    FeedItem item;
    item.batch = loader->next();
    for (i64 column : options.sparse_columns) {
      RowUnion rows =
          agree_rows(*channel, ids_of(item.batch.columns[static_cast<std::size_t>(column)]));
      item.sparse.push_back({std::move(rows.rows), std::move(rows.local)});
    }
    return item;
  }

  // A stop is obeyed only where the ring is full: every rank then leaves after the same item, and
  // none is left alone in a collective.
  void serve() {
    while (made < options.total) {
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return made - taken < depth || stop; });
        if (made - taken >= depth) return;
      }
      FeedItem item = make();
      const std::lock_guard lock(mutex);
      ready.push_back(std::move(item));
      ++made;
      changed.notify_all();
    }
  }
};

Feed::Feed(const Options& options, std::unique_ptr<Communicator> channel)
    : state_(std::make_unique<State>()) {
  state_->options = options;
  state_->channel = std::move(channel);
  state_->loader = std::make_unique<Loader>(options.loader, options.epoch, options.step);
  State* s = state_.get();
  state_->thread = std::thread([s] {
    try {
      s->serve();
    } catch (...) {
      const std::lock_guard lock(s->mutex);
      s->error = std::current_exception();
      s->changed.notify_all();
    }
  });
}

Feed::~Feed() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
    state_->changed.notify_all();
  }
  state_->thread.join();
}

FeedItem Feed::next() {
  State& s = *state_;
  const double before = seconds_now();
  std::unique_lock lock(s.mutex);
  s.changed.wait(lock, [&] { return !s.ready.empty() || s.error; });
  waited_ += seconds_now() - before;
  if (s.ready.empty()) std::rethrow_exception(s.error);
  FeedItem item = std::move(s.ready.front());
  s.ready.pop_front();
  ++s.taken;
  s.changed.notify_all();
  return item;
}

}  // namespace cohort
