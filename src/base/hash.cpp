#include "base/hash.h"

#include <fmt/core.h>
#include <xxhash.h>

#include <stdexcept>

namespace cohort {

u64 hash_bytes(const void* data, std::size_t bytes) { return XXH64(data, bytes, 0); }
u64 hash_text(std::string_view text) { return hash_bytes(text.data(), text.size()); }
std::string to_hex(u64 value) { return fmt::format("{:016x}", value); }

u64 from_hex(std::string_view text) {
  u64 value = 0;
  if (text.size() != 16) throw std::invalid_argument("expected 16 hex digits");
  for (char c : text) {
    const bool digit = c >= '0' && c <= '9', letter = c >= 'a' && c <= 'f';
    if (!digit && !letter) throw std::invalid_argument("expected 16 hex digits");
    value = value * 16 + static_cast<u64>(digit ? c - '0' : c - 'a' + 10);
  }
  return value;
}

struct Hasher::State {
  XXH64_state_t* xxh = XXH64_createState();
};
Hasher::Hasher() : state_(std::make_unique<State>()) {
  if (!state_->xxh || XXH64_reset(state_->xxh, 0) != XXH_OK) throw std::bad_alloc();
}
Hasher::~Hasher() { XXH64_freeState(state_->xxh); }
void Hasher::add(const void* data, std::size_t bytes) {
  if (bytes && XXH64_update(state_->xxh, data, bytes) != XXH_OK)
    throw std::runtime_error("XXH64_update failed");
}
u64 Hasher::value() const { return XXH64_digest(state_->xxh); }

}  // namespace cohort
