// From a raw row to the rows of a batch: what preprocess.json of a bundle describes. A raw row is a
// JSON object with the recipe's columns that the model's inputs read (docs/bundle.md). Thread-safe.
#pragma once
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/loader.h"
#include "data/recipe.h"
#include "data/shard_set.h"
#include "model/graph.h"
#include "model/target_rule.h"

namespace cohort {

// A column of many raw rows: numbers or the words of ids, one a row.
struct RawColumn {
  std::string name;
  std::vector<double> numbers;
  std::vector<std::string> words;
};

// Of the graph's target, where it is numbers that are all made alike and there is a way back.
std::optional<TargetRule> target_rule(const ShardSet& shards, const Graph& graph);

class Preprocess {
 public:
  // What the graph's inputs, without the target, need of a shard set's recipe and vocabularies.
  // Exit::data where the set does not hold it (made by an older version or another program).
  static Preprocess of(const ShardSet& shards, const Graph& graph);
  // Exit::storage naming `path` where the text is no preprocess.json of a version known here.
  static Preprocess parse(const std::string& text, const std::string& path);
  ~Preprocess();
  Preprocess(Preprocess&&) noexcept;

  // Larger pictures of another size than the field's are refused by fill(); else 64 Mi pixels.
  void limit_pixels(i64 most);

  std::string text() const;                                // preprocess.json
  const std::vector<Field>& fields() const;                // all of the graph's, the target too
  const std::vector<Vocabulary>& vocabularies() const;
  // With mse: see target_rule().
  const std::optional<TargetRule>& target() const;
  struct Column { std::string name, kind, field; };  // number, numbers, id, ids, text, image
  const std::vector<Column>& columns() const;        // what a raw row holds: all these, no others
  // What a server would be sent for a row of the shard set: these columns alone; a sequence of
  // `part: history` without its last element, which is the answer. Filling it gives the row as
  // trained on.
  nlohmann::json raw_row(const SampleRow& sample) const;
  // A batch of `inputs` (Graph::inputs) with room for `rows` rows, all padding.
  Batch empty(const std::vector<Input>& inputs, i64 rows) const;
  // Makes row `row` of the batch; the target's column stays 0. Exit::data: column, expected, got.
  void fill(Batch& batch, const std::vector<Input>& inputs, i64 row,
            const nlohmann::json& raw) const;
  // Many rows from all their columns at once: of each row the values of `inputs`, one behind another,
  // as fill() puts them into a batch. Nothing where one is no number and no id, or cannot be made:
  // fill() says why.
  std::vector<std::vector<u8>> stage(const std::vector<Input>& inputs,
                                     const std::vector<RawColumn>& columns, i64 rows) const;

 private:
  struct State;
  explicit Preprocess(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace cohort
