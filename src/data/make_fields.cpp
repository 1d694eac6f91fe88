#include "data/make_fields.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <set>

#include "base/error.h"
#include "base/text.h"
#include "fields/tokens.h"

namespace cohort {
namespace {

using Ids = std::map<std::string, i64>;

struct BadCell {
  std::string reason;
};

std::vector<std::string> words_of(const FieldConfig& config, const std::string& cell) {
  if (config.kind == "tokens") return tokenize(cell, config.words == "unicode");
  if (config.kind == "id" || config.kind == "label") return {cell};
  return tokenize(cell, false);
}

double number_of(const std::string& text) {
  const auto value = parse_double(trim(text));
  if (!value || !std::isfinite(*value)) throw BadCell{"'" + text + "' is not a number"};
  return *value;
}

class FieldMaker {
 public:
  FieldMaker(const FieldConfig& config, const RawTable& table) : config_(config) {
    const bool several = !config.columns.empty() || !config.one_hot.empty();
    if (config.kind != "image" && !several) {
      columns_.push_back(index(table, config.column.empty() ? config.name : config.column));
    }
    for (const std::string& name : config.columns) columns_.push_back(index(table, name));
    out_.field.name = config.name;
    describe(table);
  }
  FieldRows& rows() { return out_; }
  std::vector<Vocabulary>& vocabularies() { return vocabularies_; }

  // Appends one row, or throws BadCell having changed nothing.
  void add(const RawRow& row) {
    std::vector<u8> bytes;
    if (config_.kind == "image") {
      bytes.assign(row.image.begin(), row.image.end());
    } else if (config_.kind == "number" || config_.kind == "numbers") {
      add_numbers(row, bytes);
    } else {
      add_ids(row, bytes);
    }
    pending_ = std::move(bytes);
  }
  void keep() {
    out_.values.insert(out_.values.end(), pending_.begin(), pending_.end());
    if (!out_.field.ragged) return;
    const i64 element = count(out_.field.shape) * size_of(out_.field.dtype);
    out_.starts.push_back(static_cast<i64>(out_.values.size()) / element);
  }

 private:
  static std::size_t index(const RawTable& table, const std::string& name) {
    return static_cast<std::size_t>(table.column(name));
  }

  void describe(const RawTable& table) {
    Field& field = out_.field;
    const std::string& kind = config_.kind;
    field.ragged = kind == "ids" || kind == "tokens" || kind == "numbers";
    if (field.ragged) out_.starts.push_back(0);
    if (kind == "image") {
      if (table.image.empty()) fail(Exit::usage, "field '{}': no source has images", field.name);
      field.dtype = DType::u8;
      field.shape = table.image;
      return;
    }
    if (kind == "number" || kind == "numbers") {
      make_one_hot(table);
      field.dtype = DType::f32;
      field.shape = {kind == "numbers" ? config_.width
                                       : static_cast<i64>(columns_.size()) + one_hot_width_};
      return;
    }
    field.dtype = DType::i32;
    field.classes = config_.classes;
    if (config_.classes == 0) make_vocabulary(table);
  }

  void make_one_hot(const RawTable& table) {
    for (const std::string& name : config_.one_hot) {
      const std::size_t column = index(table, name);
      Ids& ids = one_hot_.emplace_back(column, Ids{}).second;
      for (const RawRow& row : table.rows) ids[row.cells[column]] = 0;
      for (auto& [word, id] : ids) id = one_hot_width_++;
    }
  }

  void make_vocabulary(const RawTable& table) {
    const bool tokens = config_.kind == "tokens";
    std::map<std::string, i64> counts;
    for (const RawRow& row : table.rows) {
      if ((tokens || config_.over == "train") && row.split != "train") continue;
      for (const std::string& word : words_of(config_, row.cells[columns_[0]])) ++counts[word];
    }
    std::vector<std::pair<std::string, i64>> words(counts.begin(), counts.end());
    Vocabulary vocabulary{config_.column.empty() ? config_.name : config_.column, {}};
    if (tokens) {  // id 0 is every unknown word; then by falling count
      std::stable_sort(words.begin(), words.end(),
                       [](const auto& a, const auto& b) { return a.second > b.second; });
      vocabulary.entries.push_back("<unk>");
    } else {  // numbers in order of value, else by text
      const bool all_numbers = std::all_of(words.begin(), words.end(), [](const auto& word) {
        return parse_i64(word.first).has_value();
      });
      if (all_numbers) {
        std::stable_sort(words.begin(), words.end(), [](const auto& a, const auto& b) {
          return *parse_i64(a.first) < *parse_i64(b.first);
        });
      }
    }
    for (const auto& [word, n] : words) {
      if (tokens && n < config_.min_count) continue;
      const i64 size = static_cast<i64>(vocabulary.entries.size());
      if (tokens && config_.max_size > 0 && size >= config_.max_size) break;
      ids_[word] = size;
      vocabulary.entries.push_back(word);
    }
    out_.field.classes = static_cast<i64>(vocabulary.entries.size());
    out_.field.vocabulary = vocabulary.name;
    vocabularies_.push_back(std::move(vocabulary));
  }

  void put(std::vector<u8>& bytes, double value) const {
    const double scaled =
        ((config_.log1p ? std::log1p(value) : value) + config_.offset) * config_.scale;
    const float number = static_cast<float>(scaled);
    if (!std::isfinite(number)) throw BadCell{"value is not a finite float"};
    append(bytes, &number);
  }
  static void append(std::vector<u8>& bytes, const void* value) {
    const u8* from = static_cast<const u8*>(value);
    bytes.insert(bytes.end(), from, from + 4);
  }

  void add_numbers(const RawRow& row, std::vector<u8>& bytes) const {
    if (config_.kind == "numbers") {
      const auto words = words_of(config_, row.cells[columns_[0]]);
      if (static_cast<i64>(words.size()) % config_.width != 0) {
        throw BadCell{fmt::format("{} numbers, expected a multiple of {}", words.size(),
                                  config_.width)};
      }
      for (const std::string& word : words) put(bytes, number_of(word));
      return;
    }
    for (std::size_t column : columns_) put(bytes, number_of(row.cells[column]));
    for (const auto& [column, ids] : one_hot_) {
      for (const auto& [word, id] : ids) {
        const float on = word == row.cells[column] ? 1.0F : 0.0F;
        append(bytes, &on);
      }
    }
  }

  i32 id_of(const std::string& word) const {
    if (config_.classes > 0) {
      const auto value = parse_i64(trim(word));
      if (!value || *value < 0 || *value >= config_.classes) {
        throw BadCell{fmt::format("'{}' is not in [0, {})", word, config_.classes)};
      }
      return static_cast<i32>(*value);
    }
    const auto found = ids_.find(word);
    if (found != ids_.end()) return static_cast<i32>(found->second);
    if (config_.kind == "tokens") return 0;
    throw BadCell{"'" + word + "' is not in the vocabulary"};
  }

  void add_ids(const RawRow& row, std::vector<u8>& bytes) const {
    const auto words = words_of(config_, row.cells[columns_[0]]);
    std::size_t begin = 0, end = words.size();
    if (config_.part != "all") {
      if (end < 2) throw BadCell{"a sequence shorter than 2 has no next element"};
      if (config_.part == "next") begin = 1;
      if (config_.part == "history") --end;
    }
    for (std::size_t i = begin; i < end; ++i) {
      const i32 id = id_of(words[i]);
      append(bytes, &id);
    }
  }

  const FieldConfig& config_;
  FieldRows out_;
  std::vector<std::size_t> columns_;
  std::vector<std::pair<std::size_t, Ids>> one_hot_;
  i64 one_hot_width_ = 0;
  Ids ids_;
  std::vector<Vocabulary> vocabularies_;
  std::vector<u8> pending_;
};

}  // namespace

RowTable make_fields(const Recipe& recipe, RawTable& table) {
  std::vector<FieldMaker> makers;
  for (const FieldConfig& config : recipe.fields) makers.emplace_back(config, table);
  RowTable out;
  for (const RawRow& row : table.rows) {
    try {
      for (std::size_t f = 0; f < makers.size(); ++f) {
        try {
          makers[f].add(row);
        } catch (BadCell& bad) {
          throw BadCell{"field '" + recipe.fields[f].name + "': " + bad.reason};
        }
      }
    } catch (const BadCell& bad) {
      table.rejects.push_back({row.place, bad.reason});
      continue;
    }
    for (FieldMaker& maker : makers) maker.keep();
    auto found = std::find(out.splits.begin(), out.splits.end(), row.split);
    if (found == out.splits.end()) found = out.splits.insert(out.splits.end(), row.split);
    out.split.push_back(found - out.splits.begin());
    out.row_ids.push_back(row.id);
  }
  std::set<std::string> names;
  for (FieldMaker& maker : makers) {
    for (Vocabulary& v : maker.vocabularies()) {
      if (names.insert(v.name).second) out.vocabularies.push_back(std::move(v));
    }
    out.fields.push_back(std::move(maker.rows()));
  }
  return out;
}

}  // namespace cohort
