#include "model/target_rule.h"

#include <algorithm>
#include <cmath>

namespace cohort {

bool TargetRule::reversible() const {
  const auto usable = [](double x) { return std::isfinite(x) && x != 0; };
  return std::isfinite(offset) && usable(scale) && usable(ingest.scale) &&
         ingest.mean.size() == ingest.inv_std.size() &&
         std::all_of(ingest.inv_std.begin(), ingest.inv_std.end(), usable);
}

std::vector<double> TargetRule::raw_of(const std::vector<double>& predicted) const {
  std::vector<double> raw;
  for (std::size_t k = 0; k < predicted.size(); ++k) {
    double x = predicted[k];
    if (!ingest.mean.empty()) {
      const std::size_t channel = k % ingest.mean.size();
      x = x / ingest.inv_std[channel] + ingest.mean[channel];
    }
    x = x / ingest.scale / scale - offset;
    raw.push_back(log1p ? std::expm1(x) : x);
  }
  return raw;
}

}  // namespace cohort
