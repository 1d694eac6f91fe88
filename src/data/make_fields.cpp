#include "data/make_fields.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/text.h"
#include "fields/tokens.h"

namespace cohort {
namespace {

double number_of(const std::string& text) {
  const auto value = parse_double(trim(text));
  if (!value || !std::isfinite(*value)) throw BadCell{"'" + text + "' is not a finite number"};
  return *value;
}

void append(std::vector<u8>& bytes, const void* value) {
  const u8* from = static_cast<const u8*>(value);
  bytes.insert(bytes.end(), from, from + 4);
}

}  // namespace

std::vector<std::string> words_of(const FieldConfig& config, const std::string& cell) {
  if (config.kind == "tokens") return tokenize(cell, config.words == "unicode");
  if (config.kind == "id" || config.kind == "label") return {cell};
  return tokenize(cell, false);
}

std::vector<std::string> columns_of(const FieldConfig& config) {
  if (config.kind == "image") return {};
  if (!config.columns.empty() || !config.one_hot.empty()) return config.columns;
  return {config.column.empty() ? config.name : config.column};
}

FieldMaker::FieldMaker(const FieldConfig& config, const RawSchema& schema) : config_(config) {
  for (const std::string& name : columns_of(config)) columns_.push_back(schema.column(name));
  for (const std::string& name : config.one_hot) one_hot_.push_back(schema.column(name));
  names_.resize(one_hot_.size());
  field_.name = config.name;
  describe(schema);
}

FieldMaker::FieldMaker(const FieldConfig& config, const Field& field, const Vocabulary* vocabulary)
    : config_(config), field_(field) {
  if (vocabulary == nullptr) return;
  vocabulary_ = *vocabulary;
  const std::size_t first = config.kind == "tokens" ? 1 : 0;  // id 0 is no word of theirs
  for (std::size_t i = first; i < vocabulary->entries.size(); ++i) {
    ids_.emplace(vocabulary->entries[i], static_cast<i64>(i));
  }
}

void FieldMaker::name_vocabulary(const std::string& name) {
  vocabulary_->name = name;
  field_.vocabulary = name;
}

// All but what is learned.
void FieldMaker::describe(const RawSchema& schema) {
  const std::string& kind = config_.kind;
  field_.ragged = kind == "ids" || kind == "tokens" || kind == "numbers";
  if (kind == "image") {
    if (schema.image.empty()) fail(Exit::usage, "field '{}': no source has images", field_.name);
    field_.dtype = DType::u8;
    field_.shape = schema.image;
  } else if (kind == "number" || kind == "numbers") {
    field_.dtype = DType::f32;
    field_.shape = {kind == "numbers" ? config_.width : static_cast<i64>(columns_.size())};
  } else {
    field_.dtype = DType::i32;
    field_.classes = config_.classes;
    if (config_.classes == 0) {
      vocabulary_ = {config_.column.empty() ? config_.name : config_.column, {}};
    }
  }
}

void FieldMaker::learn(const RawRow& row) {
  for (std::size_t i = 0; i < one_hot_.size(); ++i) names_[i][row.cells[one_hot_[i]]] = 0;
  const bool tokens = config_.kind == "tokens";
  if (!vocabulary_ || ((tokens || config_.over == "train") && row.split != "train")) return;
  for (const std::string& word : words_of(config_, row.cells[columns_[0]])) ++counts_[word];
}

void FieldMaker::finish_learning() {
  for (std::size_t i = 0; i < one_hot_.size(); ++i) {
    OneHot& known = field_.one_hot.emplace_back();
    known.column = config_.one_hot[i];
    for (const auto& [name, unused] : names_[i]) known.names.push_back(name);
    field_.shape[0] += static_cast<i64>(known.names.size());
  }
  names_ = {};
  if (vocabulary_) make_vocabulary();
}

void FieldMaker::make_vocabulary() {
  const bool tokens = config_.kind == "tokens";
  Vocabulary& vocabulary = *vocabulary_;
  std::vector<std::pair<std::string, i64>> words(counts_.begin(), counts_.end());
  counts_ = {};
  std::sort(words.begin(), words.end());
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
  field_.classes = static_cast<i64>(vocabulary.entries.size());
  field_.vocabulary = vocabulary.name;
}

std::vector<u8> FieldMaker::make(const RawRow& row) const {
  const std::string& kind = config_.kind;
  if (kind == "image") {
    if (static_cast<i64>(row.image.size()) != count(field_.shape)) throw BadCell{"has no picture"};
    return {row.image.begin(), row.image.end()};
  }
  if (kind == "number") {
    std::vector<std::string> cells;
    for (const auto* list : {&columns_, &one_hot_}) {
      for (std::size_t column : *list) cells.push_back(row.cells[column]);
    }
    return make_numbers(cells);
  }
  std::vector<std::string> words = words_of(config_, row.cells[columns_[0]]);
  if (config_.part != "all") {
    if (words.size() < 2) throw BadCell{"a sequence shorter than 2 has no next element"};
    if (config_.part == "next") words.erase(words.begin());
    if (config_.part == "history") words.pop_back();
  }
  return make_words(words);
}

void FieldMaker::put(std::vector<u8>& bytes, double value) const {
  const double scaled =
      ((config_.log1p ? std::log1p(value) : value) + config_.offset) * config_.scale;
  const float number = static_cast<float>(scaled);
  if (!std::isfinite(number)) throw BadCell{"value is not a finite float"};
  append(bytes, &number);
}

std::vector<u8> FieldMaker::make_numbers(const std::vector<std::string>& cells) const {
  std::vector<u8> bytes;
  const std::size_t numbers = cells.size() - field_.one_hot.size();
  for (std::size_t i = 0; i < numbers; ++i) {
    try {
      put(bytes, number_of(cells[i]));
    } catch (const BadCell& bad) {
      throw BadCell{bad.reason, i};
    }
  }
  for (std::size_t i = numbers; i < cells.size(); ++i) {
    const OneHot& known = field_.one_hot[i - numbers];
    bool found = false;
    for (const std::string& name : known.names) {
      const float on = name == cells[i] ? 1.0F : 0.0F;
      found = found || on != 0;
      append(bytes, &on);
    }
    if (!found) throw BadCell{"'" + cells[i] + "' was not in training", i};
  }
  return bytes;
}

std::vector<u8> FieldMaker::make_numbers(const std::vector<double>& values) const {
  std::vector<u8> bytes;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) throw BadCell{"not a finite number", i};
    put(bytes, values[i]);
  }
  return bytes;
}

std::vector<u8> FieldMaker::make_words(const std::vector<std::string>& words) const {
  std::vector<u8> bytes;
  if (config_.kind == "numbers") {
    if (static_cast<i64>(words.size()) % config_.width != 0) {
      throw BadCell{fmt::format("{} numbers, expected a multiple of {}", words.size(),
                                config_.width)};
    }
    for (const std::string& word : words) put(bytes, number_of(word));
  } else {
    for (const std::string& word : words) {
      const i32 id = id_of(word);
      append(bytes, &id);
    }
  }
  return bytes;
}

i32 FieldMaker::id_of(const std::string& word) const {
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
  throw BadCell{"'" + word + "' was not in training"};
}

}  // namespace cohort
