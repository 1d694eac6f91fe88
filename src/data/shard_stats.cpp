#include "data/shard_stats.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace cohort {

FieldSums::FieldSums(const Field& field)
    : field_(field),
      numbers_((field.dtype == DType::f32 || field.dtype == DType::u8) && field.classes == 0),
      width_(static_cast<std::size_t>(field.shape.empty() ? 1 : field.shape.back())) {}

template <class Use>
void FieldSums::each(const std::vector<u8>& row, const Use& use) const {
  const std::size_t size = static_cast<std::size_t>(size_of(field_.dtype));
  for (std::size_t i = 0; i < row.size() / size; ++i) {
    double value = row[i];
    if (field_.dtype == DType::f32) {
      float number = 0;
      std::memcpy(&number, row.data() + i * size, size);
      value = number;
    }
    use(i % width_, value);
  }
}

void FieldSums::add(const std::vector<u8>& row, bool training) {
  const i64 bytes = count(field_.shape) * size_of(field_.dtype);
  const i64 length = static_cast<i64>(row.size()) / bytes;
  if (field_.ragged) stats_.max_length = std::max(stats_.max_length, length);
  if (!training) return;
  ++rows_;
  if (field_.ragged) length_ += static_cast<double>(length);
  if (!numbers_) return;
  if (rows_ == 1) {
    stats_.mean.assign(width_, 0);
    stats_.stddev.assign(width_, 0);
    stats_.min.assign(width_, INFINITY);
    stats_.max.assign(width_, -INFINITY);
  }
  each(row, [&](std::size_t k, double value) {
    elements_ += k == 0 ? 1 : 0;
    stats_.mean[k] += value;
    stats_.min[k] = std::min(stats_.min[k], value);
    stats_.max[k] = std::max(stats_.max[k], value);
  });
}

void FieldSums::add_again(const std::vector<u8>& row) {
  const double n = static_cast<double>(elements_);
  each(row, [&](std::size_t k, double value) {
    const double mean = stats_.mean[k] / n;
    stats_.stddev[k] += (value - mean) * (value - mean);
  });
}

FieldStats FieldSums::finish() {
  if (rows_ > 0 && field_.ragged) stats_.mean_length = length_ / static_cast<double>(rows_);
  if (elements_ == 0) {
    std::fill(stats_.min.begin(), stats_.min.end(), 0);
    std::fill(stats_.max.begin(), stats_.max.end(), 0);
    return stats_;
  }
  const double n = static_cast<double>(elements_);
  for (double& mean : stats_.mean) mean /= n;
  for (double& value : stats_.stddev) value = std::sqrt(value / n);
  return stats_;
}

}  // namespace cohort
