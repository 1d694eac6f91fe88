#include "device/device.h"

#include <cstring>

#include "device/function_kernel.h"

namespace cohort {

void Device::copy_in(void* to, const void* host, i64 bytes) {
  if (bytes > 0) std::memcpy(to, host, static_cast<std::size_t>(bytes));
}

void Device::copy_out(void* host, const void* from, i64 bytes) {
  if (bytes > 0) std::memcpy(host, from, static_cast<std::size_t>(bytes));
}

void Device::copy(void* to, const void* from, i64 bytes) { copy_in(to, from, bytes); }

void Device::zero(void* data, i64 bytes) {
  if (bytes > 0) std::memset(data, 0, static_cast<std::size_t>(bytes));
}

std::vector<Slot> Device::make_slots(i64 bytes, i64 result_bytes) {
  Slot slot;
  slot.host = slot.device = static_cast<char*>(allocate(bytes));
  slot.results = static_cast<char*>(allocate(result_bytes));
  slot.bytes = bytes;
  return {slot};
}

void Device::send(const Slot&) {}

void Device::close(const Slot& slot, const void* from, i64 bytes) {
  copy_out(slot.results, from, bytes);
}

void Device::wait(const Slot&, const std::function<void()>&) {}

std::unique_ptr<Kernel> Device::record(const std::function<void()>& work) { return kernel(work); }

i64 Device::rows_treated(i64 active, i64) const { return active; }

}  // namespace cohort
