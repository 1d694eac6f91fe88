// Named segments of one arena. Offsets and sizes are in elements of the arena's type; every segment
// starts on a multiple of 16 elements.
#pragma once
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace cohort {

struct Segment {
  std::string name;
  Shape shape;
  i64 offset = 0;
  i64 count() const { return cohort::count(shape); }
};

class Layout {
 public:
  i64 add(const std::string& name, const Shape& shape);   // -> index; a name twice is broken()
  const Segment& at(const std::string& name) const;
  i64 find(const std::string& name) const;                // index or -1
  const std::vector<Segment>& segments() const { return segments_; }
  i64 size() const { return size_; }                      // elements, padding included

 private:
  std::vector<Segment> segments_;
  i64 size_ = 0;
};

// Lifetime packing: a buffer lives from step `first` to `last`, both included. Buffers whose lives
// overlap never share bytes. Returns offsets (multiples of 64) in one arena and its size.
struct Lifetime {
  i64 bytes = 0, first = 0, last = 0;
};
struct Packing {
  std::vector<i64> offsets;
  i64 bytes = 0;
};
Packing pack(const std::vector<Lifetime>& buffers);

}  // namespace cohort
