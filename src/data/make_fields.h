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
};

// One field of a recipe. First it learns the words of all rows, then it makes values.
class FieldMaker {
 public:
  FieldMaker(const FieldConfig& config, const RawSchema& schema);  // Exit::usage: no such column
  void learn(const RawRow& row);
  void finish_learning();
  const Field& field() const { return field_; }  // without statistics
  const std::optional<Vocabulary>& vocabulary() const { return vocabulary_; }
  // The row's elements, or throws BadCell.
  std::vector<u8> make(const RawRow& row) const;

 private:
  void describe(const RawSchema& schema);
  void make_vocabulary();
  void put(std::vector<u8>& bytes, double value) const;
  void add_numbers(const RawRow& row, std::vector<u8>& bytes) const;
  void add_ids(const RawRow& row, std::vector<u8>& bytes) const;
  i32 id_of(const std::string& word) const;

  const FieldConfig& config_;
  Field field_;
  std::vector<std::size_t> columns_;
  std::vector<std::pair<std::size_t, std::map<std::string, i64>>> one_hot_;  // name -> element
  std::unordered_map<std::string, i64> counts_;                              // while learning
  std::unordered_map<std::string, i64> ids_;
  std::optional<Vocabulary> vocabulary_;
};

}  // namespace cohort
