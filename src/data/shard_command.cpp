#include "data/shard_command.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/text.h"
#include "data/make_fields.h"
#include "data/samples.h"
#include "data/sequences.h"
#include "data/shard_stats.h"
#include "data/shard_writer.h"
#include "store/files.h"

namespace cohort {
namespace {

using nlohmann::json;

// Rejected rows, sorted for the report: in order of reading, then rows with bad cells by row id.
class Rejects {
 public:
  Rejects(const Recipe& recipe, i64 memory)
      : path_(recipe.output + ".rejects.tsv"), allowed_(recipe.max_bad_fraction),
        sort_(path_, memory) {
    real_files().remove(path_);
  }
  void while_reading(const std::string& place, const std::string& reason) {
    add(0, count_, place, reason);
  }
  void bad_cell(const RawRow& row, const std::string& reason) { add(1, row.id, row.place, reason); }
  i64 count() const { return count_; }

  // Writes the list; fails where it is too long for `good` rows.
  void report(i64 good) {
    if (count_ == 0) return;
    std::string first;
    auto file = real_files().create(path_);
    sort_.each([&](std::string_view, std::string_view line) {
      if (first.empty()) first = line;
      file->write(line.data(), static_cast<i64>(line.size()));
    });
    file->sync();
    file->close();
    const double part = static_cast<double>(count_) / static_cast<double>(count_ + good);
    log::warn("{} of {} rows rejected, listed in {}", count_, count_ + good, path_);
    if (part <= allowed_) return;
    first.replace(first.find('\t'), 1, ": ");
    fail(Exit::data, "{} of {} rows are bad, max_bad_fraction allows {}: first {}: all are in {}",
         count_, count_ + good, allowed_, trim(first), path_);
  }

 private:
  void add(char stage, i64 order, const std::string& place, const std::string& reason) {
    std::string key(1, stage);
    pack_ordered(key, static_cast<u64>(order));
    sort_.add(key, place + "\t" + reason + "\n");
    ++count_;
  }
  std::string path_;
  double allowed_;
  SpillSort sort_;
  i64 count_ = 0;
};

// A table whose columns are added to rows by a key; of rows of one key the last counts.
class Join {
 public:
  Join(const JoinConfig& config, const std::string& root, json& lineage, const RejectSink& reject)
      : config_(config) {
    read_source(config.table, root, table_, lineage, [&](RawRow&& row) {
      std::string key = row.cells[table_.column(config_.key)];
      rows_[key] = std::move(row.cells);
    }, reject);
  }
  void extend(RawSchema& schema) {
    on_ = schema.column(config_.on);
    key_ = table_.column(config_.key);
    std::vector<std::string> names = std::move(schema.columns);
    schema.columns.clear();
    for (std::size_t i = 0; i < table_.columns.size(); ++i) {
      if (i != key_) names.push_back(table_.columns[i]);
    }
    schema.set_columns(names, config_.table.path);
  }
  // False where the table has no such row.
  bool add_to(RawRow& row, const RejectSink& reject) const {
    const auto found = rows_.find(row.cells[on_]);
    if (found == rows_.end()) {
      reject(row.place, fmt::format("{} '{}' is not in {}", config_.on, row.cells[on_],
                                    config_.table.path));
      return false;
    }
    for (std::size_t i = 0; i < found->second.size(); ++i) {
      if (i != key_) row.cells.push_back(found->second[i]);
    }
    return true;
  }

 private:
  const JoinConfig& config_;
  RawSchema table_;
  std::map<std::string, std::vector<std::string>> rows_;
  std::size_t on_ = 0, key_ = 0;
};

// Gives rows their ids and splits, lets the fields learn from them, and brings them in the order of
// the shard set.
class Rows {
 public:
  Rows(const Recipe& recipe, i64 memory) : recipe_(recipe), sort_(recipe.output, memory) {}

  void begin(const RawSchema& schema) {
    schema_ = schema;
    for (const HoldOut& rule : recipe_.hold_out) {
      by_.push_back(rule.by.empty() ? std::nullopt : std::optional(schema.column(rule.by)));
    }
    for (const FieldConfig& config : recipe_.fields) makers_.emplace_back(config, schema);
  }
  void add(RawRow&& row) {
    row.id = next_id_++;
    for (std::size_t i = 0; i < by_.size(); ++i) hold_out(recipe_.hold_out[i], by_[i], row);
    for (FieldMaker& maker : makers_) maker.learn(row);
    const u64 hashed[2] = {recipe_.seed, static_cast<u64>(row.id)};
    const std::size_t split = split_index(row.split);
    std::string key{static_cast<char>(split >> 8), static_cast<char>(split)};
    pack_ordered(key, recipe_.order == "hash" ? hash_bytes(hashed, sizeof hashed) : 0);
    sort_.add(key, pack_row(row));
  }
  void end() {
    for (FieldMaker& maker : makers_) maker.finish_learning();
    tell_vocabularies_apart();
    if (sort_.spilled_bytes() > 0) {
      log::info("sorting {} rows outside of memory ({})", next_id_,
                human_bytes(sort_.spilled_bytes()));
    }
  }
  const std::vector<FieldMaker>& makers() const { return makers_; }
  const RawSchema& schema() const { return schema_; }

  // Every row that can be used, with the elements of its fields. Once it is known that all can be
  // used, fields that are not `wanted` are left empty.
  using Use = std::function<void(const RawRow&, const std::vector<std::vector<u8>>&)>;
  using Refuse = std::function<void(const RawRow&, const std::string& reason)>;
  void each(const Use& use, const Refuse& refuse, const std::vector<bool>& wanted = {}) {
    std::vector<std::vector<u8>> values(makers_.size());
    bool all_good = true;
    sort_.each([&](std::string_view key, std::string_view bytes) {
      RawRow row = unpack_row(bytes);
      row.split = splits_[static_cast<std::size_t>(static_cast<u8>(key[0])) << 8 |
                          static_cast<u8>(key[1])];
      for (std::size_t f = 0; f < makers_.size(); ++f) {
        if (all_good_ && !wanted.empty() && !wanted[f]) continue;
        try {
          values[f] = makers_[f].make(row);
        } catch (const BadCell& bad) {
          all_good = false;
          return refuse(row, "field '" + recipe_.fields[f].name + "': " + bad.reason);
        }
      }
      use(row, values);
    });
    all_good_ = all_good;
  }

 private:
  void hold_out(const HoldOut& rule, std::optional<std::size_t> by, RawRow& row) const {
    if (row.split != rule.from) return;
    const u64 value = by ? hash_text(row.cells[*by]) : static_cast<u64>(row.id);
    const u64 key[2] = {mix_key(recipe_.seed, name_key(rule.to)), value};
    const double part = static_cast<double>(hash_bytes(key, sizeof key) >> 11) * 0x1p-53;
    if (part < rule.fraction) row.split = rule.to;
  }
  // Fields of one column share its vocabulary, unless they learned different words.
  void tell_vocabularies_apart() {
    std::map<std::string, const std::vector<std::string>*> known;
    for (FieldMaker& maker : makers_) {
      if (!maker.vocabulary()) continue;
      const Vocabulary& words = *maker.vocabulary();
      const auto [first, added] = known.emplace(words.name, &words.entries);
      if (!added && *first->second != words.entries) maker.name_vocabulary(maker.field().name);
    }
  }
  std::size_t split_index(const std::string& split) {
    const auto found = std::find(splits_.begin(), splits_.end(), split);
    if (found != splits_.end()) return static_cast<std::size_t>(found - splits_.begin());
    if (split.empty() || split[0] == '.' || split.find_first_of(std::string_view("/\0", 2)) !=
                                                std::string::npos || splits_.size() > 0xffff) {
      fail(Exit::usage, "split '{}': expected a name that a file can have", split);
    }
    splits_.push_back(split);
    return splits_.size() - 1;
  }

  const Recipe& recipe_;
  RawSchema schema_;
  SpillSort sort_;
  std::vector<std::optional<std::size_t>> by_;  // column of each hold-out rule
  std::vector<FieldMaker> makers_;
  std::vector<std::string> splits_;  // in order of their first rows
  i64 next_id_ = 0;
  bool all_good_ = false;  // no bad cell was met by each()
};

// Sources -> joins -> (sequences) -> rows. Returns the lineage.
class Reading {
 public:
  Reading(const Recipe& recipe, i64 memory, Rows& rows, Rejects& rejects)
      : recipe_(recipe), memory_(memory), rows_(rows), reject_([&](const auto& place,
                                                                    const auto& reason) {
          rejects.while_reading(place, reason);
        }) {}

  json run() {
    json sources = json::array(), tables = json::array();
    for (const JoinConfig& config : recipe_.joins) {
      joins_.emplace_back(config, recipe_.root, tables, reject_);
    }
    RawSchema schema;
    for (const SourceConfig& source : recipe_.sources) {
      read_source(source, recipe_.root, schema, sources, [&](RawRow&& row) {
        if (read_++ == 0) begin(schema);
        add(std::move(row));
      }, reject_);
      log::info("read {}: {} rows so far", source.path, read_);
    }
    const RowSink take = [&](RawRow&& row) { rows_.add(std::move(row)); };
    if (group_) group_->each(take);
    if (aggregate_) aggregate_->each(take);
    sources.insert(sources.end(), tables.begin(), tables.end());
    return sources;
  }

 private:
  void begin(RawSchema schema) {
    for (Join& join : joins_) join.extend(schema);
    const auto sort = [&] { return std::make_unique<SpillSort>(recipe_.output, memory_); };
    if (recipe_.group) group_.emplace(*recipe_.group, schema, sort());
    if (recipe_.aggregate) aggregate_.emplace(*recipe_.aggregate, schema, sort());
    rows_.begin(group_ ? group_->schema() : aggregate_ ? aggregate_->schema() : schema);
  }
  void add(RawRow&& row) {
    for (const Join& join : joins_) {
      if (!join.add_to(row, reject_)) return;
    }
    if (group_) return group_->add(row, reject_);
    if (aggregate_) return aggregate_->add(row, reject_);
    rows_.add(std::move(row));
  }

  const Recipe& recipe_;
  i64 memory_, read_ = 0;
  Rows& rows_;
  RejectSink reject_;
  std::vector<Join> joins_;
  std::optional<GroupRows> group_;
  std::optional<AggregateRows> aggregate_;
};

// Writes the shards; returns the fields with their statistics.
std::vector<Field> write_rows(const Recipe& recipe, Rows& rows, ShardWriter& writer,
                              Rejects& rejects, Samples& samples) {
  const i64 per_block = recipe.rows_per_block;
  const i64 per_shard = (recipe.rows_per_shard + per_block - 1) / per_block * per_block;
  ShardRows shard;
  std::vector<FieldSums> sums;
  for (const FieldMaker& maker : rows.makers()) {
    shard.fields.push_back({maker.field(), {}, {}});
    sums.emplace_back(maker.field());
  }
  std::string split;
  const auto flush = [&] {
    if (!shard.row_ids.empty()) writer.write(split, shard);
    shard.clear();
  };
  rows.each(
      [&](const RawRow& row, const std::vector<std::vector<u8>>& values) {
        if (row.split != split || static_cast<i64>(shard.row_ids.size()) == per_shard) flush();
        split = row.split;
        shard.row_ids.push_back(row.id);
        samples.add(row);
        for (std::size_t f = 0; f < values.size(); ++f) {
          shard.fields[f].add(values[f]);
          sums[f].add(values[f], split == "train");
        }
      },
      [&](const RawRow& row, const std::string& reason) { rejects.bad_cell(row, reason); });
  flush();
  std::vector<bool> again;
  for (const FieldSums& field : sums) again.push_back(field.needs_second_pass());
  if (std::count(again.begin(), again.end(), true) > 0) {
    rows.each(
        [&](const RawRow& row, const std::vector<std::vector<u8>>& values) {
          for (std::size_t f = 0; f < values.size(); ++f) {
            if (row.split == "train" && again[f]) sums[f].add_again(values[f]);
          }
        },
        [](const RawRow&, const std::string&) {}, again);
  }
  std::vector<Field> fields;
  for (std::size_t f = 0; f < sums.size(); ++f) {
    fields.push_back(rows.makers()[f].field());
    fields.back().stats = sums[f].finish();
  }
  return fields;
}

std::vector<Vocabulary> vocabularies_of(const Rows& rows) {
  std::set<std::string> names;
  std::vector<Vocabulary> result;
  for (const FieldMaker& maker : rows.makers()) {
    const auto& words = maker.vocabulary();
    if (words && names.insert(words->name).second) result.push_back(*words);
  }
  return result;
}

Recipe load_recipe(const std::string& path, const std::vector<std::string>& overrides) {
  Document document = Document::load(path);
  for (const std::string& assignment : overrides) document.override_key(assignment);
  Recipe recipe;
  Binder::read(document, recipe);
  if (recipe.sources.empty() || recipe.fields.empty()) {
    fail(Exit::usage, "{}: a recipe needs sources and fields", path);
  }
  return recipe;
}

}  // namespace

ShardReport shard(const std::string& recipe_path, const std::vector<std::string>& overrides,
                  i64 memory) {
  const Recipe recipe = load_recipe(recipe_path, overrides);
  ShardWriter writer({recipe.output, recipe.rows_per_block, recipe.seed, recipe.order == "hash",
                      Binder::write(recipe)});
  const i64 share = recipe.group || recipe.aggregate ? memory * 7 / 16 : memory * 7 / 8;
  Rejects rejects(recipe, memory / 8);
  Rows rows(recipe, share);
  json lineage = Reading(recipe, share, rows, rejects).run();
  rows.end();
  Samples samples(recipe, rows.schema());
  const std::vector<Field> fields = write_rows(recipe, rows, writer, rejects, samples);
  i64 good = 0;
  for (const auto& [split, n] : writer.rows()) good += n;
  rejects.report(good);
  if (good == 0) fail(Exit::data, "{}: the sources hold no rows that can be used", recipe_path);
  writer.write_samples(samples.text());
  writer.commit(fields, vocabularies_of(rows), lineage);
  return {recipe.output, writer.rows(), rejects.count()};
}

}  // namespace cohort
