// What is told of a step that was not finite: the first tensor, its rows and its rank.
#pragma once
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "data/loader.h"
#include "plan/plan.h"

namespace cohort {

struct SkippedStep {
  i64 step = 0;
  double loss = 0, grad_norm = 0;
  i64 in_row = 0, all = 0;    // skipped steps, this one included
};

// "1 row: train-000.h5:row 17" of the batch's rows at these places; at most five are named.
std::string name_rows(const Batch& batch, const std::vector<i64>& rows,
                      const std::vector<std::string>& shards);

// What each rank found, put together: "first not finite: output of dense 'a' on rank 1 (host b): ...".
// Collective; the same on every rank. `rows`: of name_rows().
std::string blame_nonfinite(Communicator& ranks, const NonFinite& found, const std::string& rows);

std::string to_text(const SkippedStep& skipped);

}  // namespace cohort
