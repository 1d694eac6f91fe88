// The median of measurements.
#pragma once
#include <algorithm>
#include <cstddef>
#include <vector>

namespace cohort {

// Of an even number of values the larger middle one. At least one value.
inline double upper_median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace cohort
