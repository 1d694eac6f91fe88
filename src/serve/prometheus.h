// Counters and histograms as Prometheus reads them (text format 0.0.4). Thread-safe.
#pragma once
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/types.h"

namespace cohort {

using MetricLabels = std::vector<std::pair<std::string, std::string>>;

class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds);   // ascending
  void add(double value);
  std::string text(const std::string& name, const std::string& help) const;

 private:
  const std::vector<double> bounds_;
  mutable std::mutex mutex_;
  std::vector<i64> counts_;                         // of each bound, then beyond
  double sum_ = 0;
};

class CounterFamily {
 public:
  void add(const MetricLabels& labels, i64 more = 1);
  i64 at(const MetricLabels& labels) const;
  std::string text(const std::string& name, const std::string& help) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, i64> values_;               // by labels as text
};

std::string gauge_text(const std::string& name, const std::string& help, double value,
                       const MetricLabels& labels = {});

}  // namespace cohort
