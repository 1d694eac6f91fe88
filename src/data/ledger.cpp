#include "base/error.h"
#include "base/hash.h"
#include "data/loader.h"

namespace cohort {

Ledger::Ledger(i64 shards) : lines_(static_cast<std::size_t>(shards)) {}

void Ledger::add(const Batch& batch) {
  for (std::size_t i = 0; i < static_cast<std::size_t>(batch.valid); ++i) {
    Line& line = lines_.at(static_cast<std::size_t>(batch.blocks[i]));
    ++line.used;
    line.sum += hash_bytes(&batch.row_ids[i], sizeof(i64));
  }
}

}  // namespace cohort
