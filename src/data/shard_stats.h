// Statistics of one field over the rows of the training split.
#pragma once
#include "fields/schema.h"

namespace cohort {

// Mean and standard deviation by two passes over the same rows in the same order, in float64.
class FieldSums {
 public:
  explicit FieldSums(const Field& field);
  // A row's elements; those of other splits count for the greatest length alone.
  void add(const std::vector<u8>& row, bool training);
  bool needs_second_pass() const { return numbers_ && elements_ > 0; }
  void add_again(const std::vector<u8>& row);  // after add() of all rows; training rows only
  FieldStats finish();

 private:
  template <class Use>
  void each(const std::vector<u8>& row, const Use& use) const;

  Field field_;
  bool numbers_;
  std::size_t width_;              // elements of the last dimension
  i64 rows_ = 0, elements_ = 0;    // of the training split; rows of `width_` elements
  double length_ = 0;
  FieldStats stats_;               // mean: sums during the first pass
};

}  // namespace cohort
