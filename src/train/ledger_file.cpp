#include "train/ledger_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/hash.h"
#include "train/metrics_log.h"

namespace cohort {

using nlohmann::json;

std::string to_line(const LedgerLine& line) {
  return fmt::format(
      "{{\"epoch\":{},\"shard\":{},\"rows\":{},\"used\":{},\"skipped\":{},\"sum\":\"{}\"}}",
      line.epoch, json(line.shard).dump(), line.rows, line.counts.used, line.counts.skipped,
      to_hex(line.counts.sum));
}

void append_ledger(Files& files, const std::string& path, const std::vector<LedgerLine>& lines) {
  if (lines.empty()) return;
  const auto first = std::min_element(
      lines.begin(), lines.end(),
      [](const LedgerLine& a, const LedgerLine& b) { return a.epoch < b.epoch; });
  if (files.exists(path)) {
    const std::string before = files.read(path);
    const std::string kept =
        kept_lines(before, "epoch", [&](const json&) { return first->epoch - 1; });
    if (kept != before) write_atomically(files, path, kept);
  }
  std::string text;
  for (const LedgerLine& line : lines) text += to_line(line) + "\n";
  const auto file = files.append(path);
  file->write(text.data(), static_cast<i64>(text.size()));
  file->sync();
  file->close();
}

LedgerFile::LedgerFile(Files& files, const std::string& path, std::function<bool()> ours)
    : late_([this, &files, path, ours = std::move(ours)] {
        if (ours()) append_ledger(files, path, owed_);
        owed_.clear();
      }) {}

// Epochs that are done again after a rollback replace what is owed of them.
void LedgerFile::add(const std::vector<LedgerLine>& lines) {
  if (lines.empty()) return;
  std::erase_if(owed_, [&](const LedgerLine& l) { return l.epoch >= lines.front().epoch; });
  owed_.insert(owed_.end(), lines.begin(), lines.end());
  late_.owe();
}

void LedgerFile::retry() { late_.retry(); }
void LedgerFile::finish() { late_.finish(); }

json ledger_to_json(const Ledger& ledger) {
  json lines = json::array();
  for (const Ledger::Line& line : ledger.lines()) {
    lines.push_back({{"used", line.used}, {"skipped", line.skipped}, {"sum", to_hex(line.sum)}});
  }
  return lines;
}

void ledger_from_json(const json& state, Ledger& ledger) {
  if (!state.is_array() || state.size() != ledger.lines().size()) {
    fail(Exit::storage, "state.json: ledger: expected {} shards, got {}", ledger.lines().size(),
         state.size());
  }
  try {
    for (std::size_t i = 0; i < state.size(); ++i) {
      Ledger::Line& line = ledger.lines()[i];
      line.used = state[i].at("used").get<i64>();
      line.skipped = state[i].at("skipped").get<i64>();
      line.sum = from_hex(state[i].at("sum").get<std::string>());
    }
  } catch (const std::exception& e) {
    fail(Exit::storage, "state.json: ledger: {}", e.what());
  }
}

}  // namespace cohort
