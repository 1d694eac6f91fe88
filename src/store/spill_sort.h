// A sort of more records than memory holds: full buffers are sorted and spilled to a file as runs,
// which are merged when read. Errors are Exit::storage with path, operation and the errno text.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/types.h"

namespace cohort {

class SpillSort {
 public:
  // Holds about `memory` bytes, more only where one record needs it. The spill file lies beside
  // `path`; it has no name, so that nothing of it outlives the process.
  SpillSort(std::string path, i64 memory);
  ~SpillSort();
  // A key and its value: under 4 GiB each.
  void add(std::string_view key, std::string_view value);
  // All records in order of their keys' bytes, equal keys as they were added. May be called again;
  // add() must not. The views are valid during the call.
  using Use = std::function<void(std::string_view key, std::string_view value)>;
  void each(const Use& use);
  i64 spilled_bytes() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Values packed back to back, as records hold them.
template <class T>
void pack_value(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void pack_size(std::string& out, u64 size);  // one byte where it is below 128
void pack_text(std::string& out, std::string_view text);
// Order of bytes is order of values (-0 is 0): for keys.
void pack_ordered(std::string& out, u64 value);
void pack_ordered(std::string& out, double value);

class Unpacker {
 public:
  explicit Unpacker(std::string_view bytes) : bytes_(bytes) {}
  template <class T>
  T value() {
    T result;
    take(sizeof result).copy(reinterpret_cast<char*>(&result), sizeof result);
    return result;
  }
  u64 size();
  std::string_view text() { return take(size()); }

 private:
  std::string_view take(u64 bytes);
  std::string_view bytes_;
};

}  // namespace cohort
