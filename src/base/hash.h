// Checksums and fingerprints: XXH64 (libxxhash), seed 0, written as 16 lower-case hex digits.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "base/types.h"

namespace cohort {

u64 hash_bytes(const void* data, std::size_t bytes);
u64 hash_text(std::string_view text);
std::string to_hex(u64 value);
u64 from_hex(std::string_view text);  // throws std::invalid_argument unless 16 hex digits

// Incremental form of hash_bytes.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;
  void add(const void* data, std::size_t bytes);
  u64 value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cohort
