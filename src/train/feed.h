// The trainer's batches, one step ahead: a thread takes them from the loader and makes the ranks
// agree on the rows of the sparse tables over a channel of its own.
#pragma once
#include <memory>

#include "comm/communicator.h"
#include "data/loader.h"
#include "plan/plan.h"

namespace cohort {

struct FeedItem {
  Batch batch;
  std::vector<SparseRows> sparse;
};

class Feed {
 public:
  // Makes `total` items, then ends. `channel` is used by the feed's thread alone.
  struct Options {
    LoaderConfig loader;
    i64 epoch = 0, step = 0, total = 0;
    std::vector<i64> sparse_columns;
  };
  Feed(const Options& options, std::unique_ptr<Communicator> channel);
  // All ranks must have taken the same number of items: the threads then end in step.
  ~Feed();
  FeedItem next();
  double waited_seconds() const { return waited_; }

 private:
  struct State;
  std::unique_ptr<State> state_;
  double waited_ = 0;
};

}  // namespace cohort
