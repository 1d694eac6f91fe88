// How the tensors of a checkpoint are dealt to the ranks that write them: in file order, cut between
// rows (the first dimension) so that every slice has about the same bytes.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "device/device.h"
#include "plan/state.h"

namespace cohort {

// Rows [begin, end) of a tensor; a scalar has one row, a tensor without elements may have none.
struct Piece {
  std::size_t tensor = 0;   // index into the list that was cut
  i64 begin = 0, end = 0;
};

struct Slice {
  std::string file;         // "tensors-00002-of-00004.safetensors"
  std::vector<Piece> pieces;
  i64 bytes = 0;            // of the pieces
};

// Pure: the same on every rank. Every tensor has at least one piece.
std::vector<Slice> cut_slices(const std::vector<NamedView>& tensors, i64 slices);
i64 rows_of(const View& tensor);
// The piece as a tensor of its own.
NamedView view_of(const std::vector<NamedView>& tensors, const Piece& piece);
// Names of tensors that hold a value that is not finite.
std::vector<std::string> not_finite(const std::vector<NamedView>& tensors);

// A copy of one slice in host memory that is allocated once.
class Snapshot {
 public:
  Snapshot(Device& device, const std::vector<NamedView>& tensors, const Slice& slice);
  void take();              // copies; returns when the copy is whole
  const std::vector<NamedView>& tensors() const { return copies_; }   // of the copy
  i64 bytes() const { return static_cast<i64>(memory_.size()); }

 private:
  Device& device_;
  std::vector<NamedView> sources_, copies_;
  std::vector<u8> memory_;
};

}  // namespace cohort
