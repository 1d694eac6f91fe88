// Synthetic demo data with planted structure, for the workloads that have no free data set to ship.
#pragma once
#include <string>

#include "base/types.h"

namespace cohort {

// Writes behavior, next-event, recommend, recommend-mlp and sentiment as {train,test}.csv under
// `folder`/<name>/, and truth.json: the score of the best predictor on the test rows, known from
// how the rows were generated. The same seed gives the same bytes.
void make_demo(const std::string& folder, u64 seed);

}  // namespace cohort
