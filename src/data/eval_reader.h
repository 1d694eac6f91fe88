// Rows read into a batch, for evaluation and for the loader.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "data/loader.h"

namespace cohort {

// Rows [begin, end) of a split in shard order; `index` counts blocks over all ranks.
struct EvalBlock {
  i64 index = 0, begin = 0, end = 0;
};
// Fixed blocks of eval_batch rows, dealt round-robin: this rank's.
std::vector<EvalBlock> eval_blocks(i64 rows, i64 eval_batch, int rank, int world);

// A column of padding: zeros, and -1 where ids are.
void clear_column(BatchColumn& column, const Input& input, bool ids, i64 rows);
// The elements of a row that a batch holds: of ragged ones the last max_length.
inline Range kept_elements(const Input& input, i64 elements) {
  return {input.ragged && elements > input.max_length ? elements - input.max_length : 0, elements};
}
// Copies these elements (bytes of whole elements, at most what kept_elements() leaves) to a row.
void put_row(BatchColumn& column, const Input& input, i64 row, const u8* data, i64 bytes);

// Fills batches from blocks of one split, keeping the `cached` blocks used last. Several threads may
// fill, each its own batch: a block is read by one of them. Errors are Exit::data naming shard,
// field and row.
class RowReader {
 public:
  RowReader(std::shared_ptr<ShardSet> shards, const std::string& split, std::vector<Input> inputs,
            i64 cached);
  ~RowReader();
  i64 rows() const;  // of the split
  // Valid rows first (in the order given), padding last; positions count from first_position.
  void fill(Batch& batch, const std::vector<RowRef>& rows, i64 first_position,
            i64 capacity) const;
  // Rows [block.begin, block.end) in shard order.
  void read_rows(Batch& batch, const EvalBlock& block, i64 capacity) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cohort
