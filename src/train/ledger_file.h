// ledger.jsonl: {"epoch":e,"shard":"file","rows":n,"used":n,"skipped":n,"sum":"hex"} per epoch and
// shard, written when an epoch is complete.
#pragma once
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "data/loader.h"
#include "store/files.h"
#include "train/late_work.h"

namespace cohort {

struct LedgerLine {
  i64 epoch = 0;
  std::string shard;
  i64 rows = 0;
  Ledger::Line counts;
};
std::string to_line(const LedgerLine& line);

// Appends and syncs. Lines of `epoch` and later left by an earlier attempt are removed first, so
// that writing an epoch again is harmless.
void append_ledger(Files& files, const std::string& path, const std::vector<LedgerLine>& lines);

// The same, and what cannot be written is written later, unless the file is `ours` no more.
class LedgerFile {
 public:
  LedgerFile(Files& files, const std::string& path, std::function<bool()> ours);
  void add(const std::vector<LedgerLine>& lines);   // of one epoch
  void retry();
  void finish();   // what could not be written, or Error

 private:
  std::vector<LedgerLine> owed_;
  LateWork late_;
};

// Partial ledgers as checkpoint state.
nlohmann::json ledger_to_json(const Ledger& ledger);
void ledger_from_json(const nlohmann::json& state, Ledger& ledger);   // Exit::storage on misfits

}  // namespace cohort
