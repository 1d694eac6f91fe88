#include "device/device.h"

#include <cstring>

namespace cohort {

void Device::copy_in(void* to, const void* host, i64 bytes) {
  if (bytes > 0) std::memcpy(to, host, static_cast<std::size_t>(bytes));
}

void Device::copy_out(void* host, const void* from, i64 bytes) {
  if (bytes > 0) std::memcpy(host, from, static_cast<std::size_t>(bytes));
}

void Device::zero(void* data, i64 bytes) {
  if (bytes > 0) std::memset(data, 0, static_cast<std::size_t>(bytes));
}

}  // namespace cohort
