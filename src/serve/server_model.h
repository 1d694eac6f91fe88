// What a server serves: the facts of a bundle that it tells, and how rows are answered.
#pragma once
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "model/op.h"
#include "serve/bundle.h"
#include "serve/scorer.h"

namespace cohort {

// Of one row: the answer, or, where the best items were asked for, those.
struct RowReply {
  Answer answer;
  TopAnswer top;
  const std::string& error() const { return answer.error.empty() ? top.error : answer.error; }
};
// Used by one thread. `top` 0: scores. What is said of rows that are not wanted is not looked at.
using AnswerRows = std::function<std::vector<RowReply>(const std::vector<nlohmann::json>& rows,
                                                       i64 top, const Unwanted& unwanted)>;

struct ServedModel {
  std::string name, version = "1";
  std::string digest, run;
  i64 step = 0;
  std::vector<Preprocess::Column> columns;
  LossKind loss = LossKind::mse;
  i64 width = 1;                             // numbers of an answer
  bool has_value = false;                    // of a prediction, too: see TargetRule
  std::vector<std::string> labels;           // of a classifier
  bool two_tower = false;
  std::string about;                         // JSON for people: lineage, labels, columns
  std::function<AnswerRows()> make;          // a scorer, in the thread that will use it
  // Rows, as JSON binary values, from all columns of this many; nothing where they have to be given as
  // objects. Any thread. May be null.
  std::function<std::vector<std::vector<u8>>(const std::vector<RawColumn>&, i64)> stage;
  std::function<std::string(const RowReply&)> json_text;   // as `cohort score` prints it
  std::string label(std::size_t index) const;   // its name, or the number
};

struct ServedName {
  std::string name, version;
};
// Of a bundle that was checked. Each scorer computes with one thread, in batches of `rows`.
std::shared_ptr<const ServedModel> served_model(std::shared_ptr<const Bundle> bundle,
                                                const ServedName& name, i64 rows);

}  // namespace cohort
