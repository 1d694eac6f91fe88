#include "serve/prometheus.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace cohort {
namespace {

std::string escaped(const std::string& text, bool quotes) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '\\' || (quotes && c == '"')) out += '\\';
    out += c;
  }
  return out;
}

std::string label_text(const MetricLabels& labels) {
  std::string text;
  for (const auto& [name, value] : labels)
    text += fmt::format("{}{}=\"{}\"", text.empty() ? "" : ",", name, escaped(value, true));
  return text.empty() ? text : "{" + text + "}";
}

std::string number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

std::string head(const std::string& name, const std::string& help, const char* type) {
  return fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n", name, escaped(help, false), type);
}

}  // namespace

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

void Histogram::add(double value) {
  const auto bound = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  const std::lock_guard<std::mutex> lock(mutex_);
  ++counts_[static_cast<std::size_t>(bound - bounds_.begin())];
  sum_ += value;
}

std::string Histogram::text(const std::string& name, const std::string& help) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::string out = head(name, help, "histogram");
  i64 count = 0;
  for (std::size_t k = 0; k < counts_.size(); ++k) {
    count += counts_[k];
    const std::string bound = k < bounds_.size() ? number(bounds_[k]) : "+Inf";
    out += fmt::format("{}_bucket{{le=\"{}\"}} {}\n", name, bound, count);
  }
  return out + fmt::format("{0}_sum {1}\n{0}_count {2}\n", name, number(sum_), count);
}

void CounterFamily::add(const MetricLabels& labels, i64 more) {
  const std::lock_guard<std::mutex> lock(mutex_);
  values_[label_text(labels)] += more;
}

i64 CounterFamily::at(const MetricLabels& labels) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = values_.find(label_text(labels));
  return found == values_.end() ? 0 : found->second;
}

std::string CounterFamily::text(const std::string& name, const std::string& help) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::string out = head(name, help, "counter");
  for (const auto& [labels, value] : values_) out += fmt::format("{}{} {}\n", name, labels, value);
  return out;
}

std::string gauge_text(const std::string& name, const std::string& help, double value,
                       const MetricLabels& labels) {
  return head(name, help, "gauge") + name + label_text(labels) + " " + number(value) + "\n";
}

}  // namespace cohort
