// Evaluation on all ranks, equal to the one-rank value: fixed blocks of eval.batch rows are dealt
// to ranks, and the blocks' states are merged in block order.
#pragma once
#include <functional>
#include <optional>
#include <string>

#include "data/eval_reader.h"
#include "train/session.h"

namespace cohort {

struct EvalResult {
  i64 rows = 0;
  MetricValues metrics;
};

class Evaluator {
 public:
  // Of the averages of the weights, where the state keeps them.
  Evaluator(Session& session, ModelState& state, const std::string& split);
  // Collective: the same values on every rank; nothing where any rank wants to `stop`, which is
  // asked before each block.
  std::optional<EvalResult> run(const std::function<bool()>& stop = {});
  // This rank's blocks only, in order: for prediction.
  struct Scored {
    const Batch* batch = nullptr;
    i64 steps = 1, width = 1;
    std::vector<double> prediction, target;   // [valid, steps, width], [valid, steps(, width)]
  };
  void each(const std::function<void(const EvalBlock&, const Scored&)>& use);

 private:
  using Use = std::function<void(const EvalBlock&, const Scored&)>;
  bool score(const Use& use, const std::function<bool()>& stop);   // false: stopped
  bool agree_to_stop(bool mine);
  std::vector<i32> valid_steps(const Batch& batch) const;
  Session& session_;
  MetricSpec spec_;
  RowReader reader_;
  ModelState state_;   // averaged; of plan_
  Plan plan_;
  i64 steps_ = 1;
};

}  // namespace cohort
