// Batches of one rank, read ahead by threads. Valid rows come first, padding rows last: weight 0,
// ids -1, lengths 0, other values 0.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "data/lanes.h"
#include "model/graph.h"

namespace cohort {

struct BatchColumn {
  std::vector<u8> data;        // [capacity, shape...] of the graph's Input, raw dtype
  std::vector<i32> lengths;    // ragged: [capacity]
};
struct Batch {
  i64 epoch = 0, step = 0;     // step inside the epoch
  i64 capacity = 0, valid = 0;
  std::vector<BatchColumn> columns;   // as Graph::inputs
  std::vector<i64> row_ids;           // [capacity], -1 padding
  std::vector<i32> positions;         // [capacity]
  std::vector<i64> blocks;            // [capacity] index of the row's shard, for the ledger
};

struct LoaderConfig {
  std::shared_ptr<ShardSet> shards;
  std::string split;
  std::vector<Input> inputs;
  LaneConfig lanes;
  Range positions;             // this rank's
  i64 capacity = 0;            // rows a batch holds, >= positions
  i64 ahead = 3;               // batches in the ring, at least one per thread
  int threads = 1;             // readers; they change nothing but the speed
};

// Memory holds the ring, the blocks of the windows that this rank's lanes are in, and those of the
// batches that the threads are at.
class Loader {
 public:
  // Starts reading at (epoch, step); goes on over epochs until destroyed.
  Loader(const LoaderConfig& config, i64 epoch, i64 step);
  ~Loader();
  i64 steps_per_epoch() const;
  // The next batch, valid until the call after. Rethrows a reader's Error.
  const Batch& next();
  double waited_seconds() const;   // spent in next() so far

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Per epoch and shard: rows used, and the sum mod 2^64 of XXH64(row id).
class Ledger {
 public:
  explicit Ledger(i64 shards);
  void add(const Batch& batch);
  struct Line { i64 used = 0, skipped = 0; u64 sum = 0; };
  std::vector<Line>& lines() { return lines_; }
  const std::vector<Line>& lines() const { return lines_; }

 private:
  std::vector<Line> lines_;
};

}  // namespace cohort
