#include "tensor/layout.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace cohort {
namespace {

i64 round_up(i64 value, i64 step) { return (value + step - 1) / step * step; }

}  // namespace

i64 Layout::add(const std::string& name, const Shape& shape) {
  COHORT_CHECK(find(name) < 0, "segment '" + name + "' added twice");
  segments_.push_back({name, shape, size_});
  size_ = round_up(size_ + cohort::count(shape), 16);
  return static_cast<i64>(segments_.size()) - 1;
}

const Segment& Layout::at(const std::string& name) const {
  const i64 index = find(name);
  COHORT_CHECK(index >= 0, "no segment '" + name + "'");
  return segments_[static_cast<std::size_t>(index)];
}

i64 Layout::find(const std::string& name) const {
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    if (segments_[i].name == name) return static_cast<i64>(i);
  }
  return -1;
}

// Largest buffers first, each at the lowest offset free of every placed buffer that lives with it.
Packing pack(const std::vector<Lifetime>& buffers) {
  std::vector<std::size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return buffers[a].bytes > buffers[b].bytes;
  });
  Packing packing;
  packing.offsets.assign(buffers.size(), 0);
  std::vector<std::size_t> placed;  // by offset
  for (std::size_t i : order) {
    const Lifetime& buffer = buffers[i];
    i64 offset = 0;
    for (std::size_t j : placed) {
      const Lifetime& other = buffers[j];
      if (other.last < buffer.first || buffer.last < other.first) continue;
      if (offset + buffer.bytes <= packing.offsets[j]) break;
      offset = std::max(offset, round_up(packing.offsets[j] + other.bytes, 64));
    }
    packing.offsets[i] = offset;
    packing.bytes = std::max(packing.bytes, round_up(offset + buffer.bytes, 64));
    const auto place = std::upper_bound(
        placed.begin(), placed.end(), offset,
        [&](i64 value, std::size_t j) { return value < packing.offsets[j]; });
    placed.insert(place, i);
  }
  return packing;
}

}  // namespace cohort
