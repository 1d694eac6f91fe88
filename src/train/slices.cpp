#include "train/slices.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "export/safetensors.h"

namespace cohort {
namespace {

template <class T>
bool all_finite(const View& view) {
  const T* at = view.as<const T>();
  return std::all_of(at, at + view.count(), [](T value) { return std::isfinite(value); });
}

i64 aligned(i64 bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

i64 rows_of(const View& tensor) { return tensor.shape.empty() ? 1 : tensor.shape[0]; }

NamedView view_of(const std::vector<NamedView>& tensors, const Piece& piece) {
  NamedView part = tensors[piece.tensor];
  const i64 rows = rows_of(part.view);
  if (part.view.shape.empty() || rows == 0) return part;
  const i64 row_bytes = part.view.bytes() / rows;
  part.view.data = part.view.as<char>() ? part.view.as<char>() + piece.begin * row_bytes : nullptr;
  part.view.shape[0] = piece.end - piece.begin;
  return part;
}

std::vector<Slice> cut_slices(const std::vector<NamedView>& tensors, i64 slices) {
  COHORT_CHECK(slices >= 1, "a checkpoint without slices");
  i64 total = 0;
  for (const NamedView& tensor : tensors) total += tensor.view.bytes();
  std::vector<Slice> result(static_cast<std::size_t>(slices));
  for (i64 s = 0; s < slices; ++s) {
    result[static_cast<std::size_t>(s)].file =
        fmt::format("tensors-{:05d}-of-{:05d}.safetensors", s + 1, slices);
  }
  i64 start = 0, slice = 0;   // bytes before this tensor; the slice that is being filled
  const auto limit = [&](i64 s) {   // without overflow for any size of checkpoint
    return total / slices * (s + 1) + total % slices * (s + 1) / slices;
  };
  for (const std::size_t k : file_order(tensors)) {
    const i64 rows = rows_of(tensors[k].view), bytes = tensors[k].view.bytes();
    const i64 row_bytes = rows > 0 ? bytes / rows : 0;
    for (i64 row = 0;;) {
      while (slice + 1 < slices && start + row * row_bytes >= limit(slice)) ++slice;
      i64 end = rows;   // rows that begin before the limit
      if (slice + 1 < slices && row_bytes > 0)
        end = std::min(rows, (limit(slice) - start + row_bytes - 1) / row_bytes);
      Slice& to = result[static_cast<std::size_t>(slice)];
      to.pieces.push_back({k, row, end});
      to.bytes += (end - row) * row_bytes;
      row = end;
      if (row >= rows) break;
    }
    start += bytes;
  }
  return result;
}

std::vector<std::string> not_finite(const std::vector<NamedView>& tensors) {
  std::vector<std::string> names;
  for (const NamedView& tensor : tensors) {
    const bool finite = tensor.view.dtype == DType::f32   ? all_finite<float>(tensor.view)
                        : tensor.view.dtype == DType::f64 ? all_finite<double>(tensor.view)
                                                          : true;
    if (!finite) names.push_back(tensor.name);
  }
  return names;
}

Snapshot::Snapshot(Device& device, const std::vector<NamedView>& tensors, const Slice& slice)
    : device_(device) {
  i64 bytes = 0;
  for (const Piece& piece : slice.pieces) {
    sources_.push_back(view_of(tensors, piece));
    bytes += aligned(sources_.back().view.bytes());
  }
  memory_.resize(static_cast<std::size_t>(bytes));   // zeroed: its pages are there
  copies_ = sources_;
  u8* at = memory_.data();
  for (NamedView& copy : copies_) {
    copy.view.data = at;
    at += aligned(copy.view.bytes());
  }
}

void Snapshot::take() {
  for (std::size_t k = 0; k < sources_.size(); ++k) {
    const View& from = sources_[k].view;
    if (from.bytes() > 0) device_.copy_out(copies_[k].view.data, from.data, from.bytes());
  }
}

}  // namespace cohort
