// What preprocess.json holds.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "data/make_fields.h"
#include "data/recipe.h"
#include "model/graph.h"
#include "serve/preprocess.h"

namespace cohort {

// One input of the model.
struct InputRule {
  std::string name;       // in the model
  i64 max_length = 0;     // 0: not ragged
  FieldConfig config;     // of its field
  Ingest ingest;          // done in the model; told to readers
};

struct Preprocess::State {
  std::string icu;        // version of the word boundaries
  bool resize = false;    // pictures of another size
  std::string recipe;     // JSON: told to readers
  i64 most_pixels = i64{1} << 26;         // of those; not kept in the file
  std::vector<InputRule> inputs;
  std::vector<Field> fields;              // of the inputs, then the target's
  std::vector<Vocabulary> vocabularies;
  std::optional<TargetRule> target;

  // What follows from those.
  std::vector<FieldMaker> makers;         // of the input fields, each once
  std::vector<Column> columns;

  // Why these rules cannot be used, or empty.
  std::string problem() const;
  void finish();                          // where there is no problem
  const Field* field_named(const std::string& name) const;    // null: none
  const Vocabulary* words_of_field(const Field& field) const;  // null: none
  const FieldMaker* maker_of(const std::string& field) const;

 private:
  std::string problem_of(const InputRule& input) const;
  void add_column(const std::string& name, const std::string& kind, const FieldConfig& config);
};

}  // namespace cohort
