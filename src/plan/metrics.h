// Metrics that are the same for any number of ranks: rows are scored in fixed blocks, a block's
// state is bytes, and the states are merged in block order. Counts are integers, sums float64.
//
//   mse, rmse, mae   over all elements of all counted rows
//   accuracy         cross_entropy: first largest logit; bce: logit > 0 against target >= 0.5
//   macro_f1         mean of F1 over the classes that occur in target or prediction
//                    (scikit-learn's f1_score(average="macro", zero_division=0))
//   log_loss         mean negative log likelihood of logits (natural logarithm)
//   auc              exact area under the ROC curve, ties count half; NaN with one class only
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "model/op.h"

namespace cohort {

struct MetricSpec {
  LossKind loss = LossKind::mse;
  i64 width = 1;                    // elements of a prediction: classes, or outputs of a row
  std::vector<std::string> names;
};
// The metrics that a loss allows.
std::vector<std::string> known_metrics(LossKind loss);
// Exit::usage for a name that the loss does not allow, with the nearest.
void check_metrics(const MetricSpec& spec);
// True where larger is better.
bool larger_is_better(const std::string& metric);

// Predictions and targets of some rows. Sequences: `steps` predictions per row, of which the first
// valid_steps[row] count (all where null). Targets: mse [rows, steps, width]; bce [rows, steps];
// cross_entropy [rows, steps], negative = ignored.
struct MetricRows {
  i64 rows = 0, steps = 1;
  const double* prediction = nullptr;   // [rows, steps, width]
  const double* target = nullptr;
  const i32* valid_steps = nullptr;     // [rows] or null
};

using MetricValues = std::vector<std::pair<std::string, double>>;   // in the order of spec.names

// The sums of some rows.
struct MetricState {
  i64 count = 0;                        // elements (mse) or targets
  i64 correct = 0;
  double squared = 0, absolute = 0, log_loss = 0;
  std::vector<i64> hits, predicted, actual;             // per class
  std::vector<std::pair<double, u8>> scores;            // auc: score, label
};

// One block of rows, added in row order.
class MetricBlock {
 public:
  explicit MetricBlock(const MetricSpec& spec);
  void add(const MetricRows& rows);
  // For all_gather; `block` is the block's index in the evaluation order.
  std::string bytes(i64 block) const;

 private:
  void add_target(const double* prediction, const double* target);
  void add_class(const double* logits, double target);
  MetricSpec spec_;
  bool wants_scores_ = false;
  MetricState state_;
};

// Merges blocks given in any order, concatenated at will (a rank's blocks are one string). Blocks
// 0..n-1 must each be there once; anything else is broken().
MetricValues merge_metrics(const MetricSpec& spec, const std::vector<std::string>& gathered);

}  // namespace cohort
