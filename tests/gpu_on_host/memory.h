// Device memory: the host cannot touch it, it begins as NaN, its ends are watched, and an address
// once freed is never used again.
#pragma once
#include <cstddef>
#include <string>

namespace hg {
// While one lives, the memory of the device can be touched: by device work only.
class Open {
 public:
  explicit Open(int device);
  ~Open();
  Open(const Open&) = delete;
  Open& operator=(const Open&) = delete;

 private:
  int device_;
};

void install_fault_handler();
// Aborts when memory beside an allocation of the device was written; `what` ran last.
void check_ends(int device, const std::string& what);
// Inside the part of the address space that device memory comes from.
bool on_device(const void* at);
// The device whose live allocation holds the address, else -1.
int owner_of(const void* at);
bool is_pinned(const void* at, std::size_t bytes);
// For messages: what an address is.
std::string describe(const void* at);
std::string memory_leaks();
}  // namespace hg
