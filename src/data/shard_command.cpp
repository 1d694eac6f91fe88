#include "data/shard_command.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/text.h"
#include "data/make_fields.h"
#include "data/shard_writer.h"
#include "store/files.h"

namespace cohort {
namespace {

void join_table(const JoinConfig& join, const std::string& root, RawTable& table,
                nlohmann::json& lineage) {
  RawTable other;
  read_source(join.table, root, other, lineage);
  const std::size_t on = static_cast<std::size_t>(table.column(join.on));
  const std::size_t key = static_cast<std::size_t>(other.column(join.key));
  std::map<std::string, const RawRow*> rows;
  for (const RawRow& row : other.rows) rows[row.cells[key]] = &row;
  for (std::size_t i = 0; i < other.columns.size(); ++i) {
    if (i != key) table.columns.push_back(other.columns[i]);
  }
  table.rejects.insert(table.rejects.end(), other.rejects.begin(), other.rejects.end());
  std::vector<RawRow> kept;
  for (RawRow& row : table.rows) {
    const auto found = rows.find(row.cells[on]);
    if (found == rows.end()) {
      table.rejects.push_back(
          {row.place, fmt::format("{} '{}' is not in {}", join.on, row.cells[on], join.table.path)});
      continue;
    }
    for (std::size_t i = 0; i < other.columns.size(); ++i) {
      if (i != key) row.cells.push_back(found->second->cells[i]);
    }
    kept.push_back(std::move(row));
  }
  table.rows = std::move(kept);
}

void hold_out(const HoldOut& rule, u64 seed, RawTable& table) {
  const i64 column = rule.by.empty() ? -1 : table.column(rule.by);
  const u64 salt = mix_key(seed, name_key(rule.to));
  for (RawRow& row : table.rows) {
    if (row.split != rule.from) continue;
    const u64 value = column < 0 ? static_cast<u64>(row.id)
                                 : hash_text(row.cells[static_cast<std::size_t>(column)]);
    const u64 key[2] = {salt, value};
    const double part = static_cast<double>(hash_bytes(key, sizeof key) >> 11) * 0x1p-53;
    if (part < rule.fraction) row.split = rule.to;
  }
}

void report_rejects(const Recipe& recipe, const RawTable& table, i64 good) {
  if (table.rejects.empty()) return;
  std::string text;
  for (const Reject& reject : table.rejects) text += reject.place + "\t" + reject.reason + "\n";
  const std::string path = recipe.output + ".rejects.tsv";
  write_atomically(real_files(), path, text);
  const i64 bad = static_cast<i64>(table.rejects.size());
  const double part = static_cast<double>(bad) / static_cast<double>(bad + good);
  const Reject& first = table.rejects.front();
  log::warn("{} of {} rows rejected, listed in {}", bad, bad + good, path);
  if (part > recipe.max_bad_fraction) {
    fail(Exit::data,
         "{} of {} rows are bad, max_bad_fraction allows {}: first {}: {}: all are in {}", bad,
         bad + good, recipe.max_bad_fraction, first.place, first.reason, path);
  }
}

}  // namespace

ShardReport shard(const std::string& recipe_path, const std::vector<std::string>& overrides) {
  Document document = Document::load(recipe_path);
  for (const std::string& assignment : overrides) document.override_key(assignment);
  Recipe recipe;
  Binder::read(document, recipe);
  if (recipe.sources.empty() || recipe.fields.empty()) {
    fail(Exit::usage, "{}: a recipe needs sources and fields", recipe_path);
  }
  RawTable table;
  nlohmann::json lineage = nlohmann::json::array();
  for (const SourceConfig& source : recipe.sources) {
    read_source(source, recipe.root, table, lineage);
    log::info("read {}: {} rows so far", source.path, table.rows.size());
  }
  for (const JoinConfig& join : recipe.joins) join_table(join, recipe.root, table, lineage);
  if (recipe.group) group_rows(*recipe.group, table);
  if (recipe.aggregate) aggregate_rows(*recipe.aggregate, table);
  for (std::size_t i = 0; i < table.rows.size(); ++i) table.rows[i].id = static_cast<i64>(i);
  for (const HoldOut& rule : recipe.hold_out) hold_out(rule, recipe.seed, table);
  RowTable rows = make_fields(recipe, table);
  report_rejects(recipe, table, static_cast<i64>(rows.row_ids.size()));
  WriteOptions options{recipe.output, recipe.rows_per_block, recipe.rows_per_shard, recipe.seed,
                       recipe.order == "hash", "train", Binder::write(recipe)};
  write_shards(rows, options, lineage);
  ShardReport report{recipe.output, {}, static_cast<i64>(table.rejects.size())};
  for (std::size_t s = 0; s < rows.splits.size(); ++s) {
    report.rows.emplace_back(rows.splits[s], std::count(rows.split.begin(), rows.split.end(),
                                                        static_cast<i64>(s)));
  }
  return report;
}

}  // namespace cohort
