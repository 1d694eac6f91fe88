// Answers of a bundle by the native engine, on the CPU, without ranks.
#pragma once
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "serve/bundle.h"

namespace cohort {

// Of one row. What a row is answered does not depend on the rows beside it.
struct Answer {
  std::vector<double> output;          // mse: the prediction; bce: [1] and cross_entropy: [C] logits
  std::vector<double> probabilities;   // bce: [1]; cross_entropy: [C]; mse: none
  std::vector<double> value;           // the output in the raw data's units: see TargetRule
  std::string error;                   // not empty: why there is no answer (column, expected, got)
};

// The items for one user.
struct TopItem {
  std::string item;                    // its id as the raw data has it
  double score = 0;                    // the logit, or the prediction
  std::optional<double> value{};       // of a prediction: as Answer::value
};
struct TopAnswer {
  std::vector<TopItem> items;
  std::string error;                   // not empty: why there are none
};

// Asked before a row is made ready: whether nobody waits for its answer any more.
using Unwanted = std::function<bool(std::size_t row)>;

struct ScorerOptions {
  int threads = 0;                     // 0: all cores
  i64 rows = 32;                       // most answered at a time; memory is taken for those there are
};

// A bundle's weights in memory, for any number of scorers.
struct ScorerWeights;
// The device has that many threads; scorers that share it run at a time where it has one.
std::shared_ptr<ScorerWeights> load_weights(const Bundle& bundle, int threads);

// Of a two-tower model a raw row may give a user, or an item, by its id alone: what the shard set
// says of it (its first row) stands for the columns that are not there.
//
// Not thread-safe: one for each thread that answers.
class Scorer {
 public:
  // `weights`: of that bundle; null: its own.
  Scorer(std::shared_ptr<const Bundle> bundle, const ScorerOptions& options,
         std::shared_ptr<ScorerWeights> weights = nullptr);
  ~Scorer();
  // In order, any number of rows, each an object of columns or, as a binary value, what
  // Preprocess::stage() made of the graph's inputs; a row that cannot be read has an error, the
  // others their answers. Exit::usage where there is no memory for that many at a time.
  std::vector<Answer> score(const std::vector<nlohmann::json>& rows, const Unwanted& unwanted = {});
  // The two halves of score(), to measure them: at most ScorerOptions::rows rows are made ready and
  // stay so; which of them have an answer. Then all of those are answered.
  std::vector<std::size_t> prepare(const std::vector<nlohmann::json>& rows);
  std::vector<Answer> answer_prepared();
  // Two towers: for rows with a user and no item, the k items of the largest scores, best first.
  // Exit::usage where the bundle has no towers.
  std::vector<TopAnswer> top(const std::vector<nlohmann::json>& rows, i64 k,
                             const Unwanted& unwanted = {});
  const Bundle& bundle() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The index of the largest probability and its name, of a classifier's answer.
struct Label { i64 index = 0; std::string name; double probability = 0; };
std::vector<Label> best_labels(const Bundle& bundle, const Answer& answer, i64 most);
// {"label":..,"probability":..} and so on, as `cohort score` prints it (docs/bundle.md).
std::string json_text(const Bundle& bundle, const Answer& answer);
std::string json_text(const Bundle& bundle, const TopAnswer& answer);
// Of a graph's prediction, one row of all its steps: the answer that is given. `length`: elements
// of the ragged field that rules the prediction's steps (none: outputs are 0), else not looked at.
Answer answer_of(const Graph& graph, const double* prediction, i64 length);

// Scores golden.jsonl and compares: Exit::storage naming the first row that differs, by how much.
// The same tolerance as docs/bundle.md.
void check_golden(Scorer& scorer);

}  // namespace cohort
