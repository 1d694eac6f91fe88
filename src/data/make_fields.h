// Cells to values.
#pragma once
#include <map>
#include <optional>
#include <unordered_map>

#include "data/raw_rows.h"
#include "fields/schema.h"

namespace cohort {

// Why a row cannot be used.
struct BadCell {
  std::string reason;
  std::size_t cell = 0;  // of those given to make_numbers()
};

// Where words of a cell end, and in lower case: of a sequence ("tokens", "ids", "numbers").
std::vector<std::string> words_of(const FieldConfig& config, const std::string& cell);

// The columns that a field reads, in order, but for one_hot's.
std::vector<std::string> columns_of(const FieldConfig& config);

// One field of a recipe, for shards and for serving. It learns the words of all rows before it makes
// values, or is given what was learned.
class FieldMaker {
 public:
  FieldMaker(const FieldConfig& config, const RawSchema& schema);  // Exit::usage: no such column
  // Of what a shard set's manifest holds; `vocabulary` is null where the field has none.
  FieldMaker(const FieldConfig& config, const Field& field, const Vocabulary* vocabulary);
  void learn(const RawRow& row);
  void finish_learning();
  const FieldConfig& config() const { return config_; }
  const Field& field() const { return field_; }  // without statistics
  const std::optional<Vocabulary>& vocabulary() const { return vocabulary_; }
  void name_vocabulary(const std::string& name);

  // The row's elements; these throw BadCell. Only the first needs the schema's columns.
  std::vector<u8> make(const RawRow& row) const;
  // kind number: a cell of each of columns_of(), then of each of `one_hot`.
  std::vector<u8> make_numbers(const std::vector<std::string>& cells) const;
  // The same of numbers alone, where there is no one_hot.
  std::vector<u8> make_numbers(const std::vector<double>& values) const;
  // The others but images: words of a sequence, the cell of an id; all of them, whatever `part`.
  std::vector<u8> make_words(const std::vector<std::string>& words) const;

 private:
  void describe(const RawSchema& schema);
  void make_vocabulary();
  void put(std::vector<u8>& bytes, double value) const;
  i32 id_of(const std::string& word) const;

  FieldConfig config_;
  Field field_;
  std::vector<std::size_t> columns_, one_hot_;      // in the schema
  std::vector<std::map<std::string, i64>> names_;   // while learning: of each one-hot column
  std::unordered_map<std::string, i64> counts_;     // while learning
  std::unordered_map<std::string, i64> ids_;
  std::optional<Vocabulary> vocabulary_;
};

}  // namespace cohort
