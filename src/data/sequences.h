// Rows to sequences: they are sorted by key outside of memory, then taken key by key.
#pragma once
#include "data/raw_rows.h"
#include "store/spill_sort.h"

namespace cohort {

// Rows of one key (and split) become one row: the key's column, the sequence columns with their
// values in order of time (ties: as added) joined by spaces, and 'deltas', the time since the row
// before (0 for the first). In order of split and key. Memory holds one group.
class GroupRows {
 public:
  GroupRows(const Group& group, const RawSchema& in, std::unique_ptr<SpillSort> sort);
  const RawSchema& schema() const { return out_; }
  // Refuses rows with a bad time or an empty or spaced value.
  void add(const RawRow& row, const RejectSink& reject);
  void each(const RowSink& use);

 private:
  const Group& group_;
  RawSchema in_, out_;
  std::unique_ptr<SpillSort> sort_;
};

// Events per user and period, as a dense series from the user's first event to the last period of
// the data: one row for every period p after the user's first, with columns user, 'period' (p),
// 'events' (counts of the up to `history` periods before p, oldest first, joined by spaces) and
// 'target' (count of p). Periods are time / period rounded down. Splits by p alone: the last
// `test` part of all periods is test, `validation` of them before that validation. In order of
// user and period. Memory holds the counts of one user.
class AggregateRows {
 public:
  AggregateRows(const Aggregate& aggregate, const RawSchema& in, std::unique_ptr<SpillSort> sort);
  const RawSchema& schema() const { return out_; }
  // Refuses rows with a bad time; rows of another split than train are Exit::usage.
  void add(const RawRow& row, const RejectSink& reject);
  void each(const RowSink& use);

 private:
  const Aggregate& aggregate_;
  std::size_t user_, time_;
  RawSchema out_;
  std::unique_ptr<SpillSort> sort_;
  i64 first_ = 0, last_ = -1;  // periods seen
};

}  // namespace cohort
