#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "race.h"
#include "schedule.h"

namespace hg {
namespace {
constexpr std::size_t kPage = 4096;
constexpr std::size_t kSpan = std::size_t{1} << (kRaceCheck ? 36 : 40);
constexpr std::size_t kAlignment = 256;
constexpr unsigned char kPoison = 0xff;  // NaN in every float format

struct Allocation {
  std::size_t bytes;
  int device;
};

struct Memory {
  std::mutex mutex;
  char* base = nullptr;  // of the reserved addresses
  char* top = nullptr;   // first that was never given out
  std::map<char*, Allocation> live;
  std::map<char*, Allocation> freed;
  std::map<char*, std::size_t> pinned;  // allocated or registered
  std::map<char*, std::size_t> pinned_owned;
  std::size_t used[kMaxDevices] = {};
  int open[kMaxDevices] = {};
  bool accessible[kMaxDevices] = {};
  unsigned long closings = 0;
  double protecting = 0;   // seconds spent on changing protections
  bool next_fails = false;
};

Memory& memory() {
  static Memory& only = *new Memory;  // outlives the threads that run device work
  return only;
}

char* page_of(char* at) {
  return reinterpret_cast<char*>(reinterpret_cast<std::uintptr_t>(at) / kPage * kPage);
}

std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

// The pages of an allocation: [first, end).
char* first_page(char* at) { return page_of(at); }
char* end_page(char* at, std::size_t bytes) { return page_of(at + bytes + kPage - 1); }

double now() {
  const auto time = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(time).count();
}

void protect(int device, int protection) {
  const double before = now();
  for (const auto& [at, allocation] : memory().live) {
    if (allocation.device != device) continue;
    char* first = first_page(at);
    mprotect(first, end_page(at, allocation.bytes) - first, protection);
  }
  memory().protecting += now() - before;
}

template <class Map>
auto find_holder(Map& map, const void* at) {
  auto found = map.upper_bound(static_cast<char*>(const_cast<void*>(at)));
  return found == map.begin() ? map.end() : --found;
}

void reserve() {
  Memory& all = memory();
  if (all.base) return;
  install_fault_handler();
  void* at = mmap(reinterpret_cast<void*>(0x500000000000), kSpan, PROT_NONE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) die("no address space for device memory");
  all.base = all.top = static_cast<char*>(at);
}

bool poisoned(const char* first, const char* end) {
  static const std::vector<char> poison(kAlignment, static_cast<char>(kPoison));
  return std::memcmp(first, poison.data(), static_cast<std::size_t>(end - first)) == 0;
}

// Changing protections costs milliseconds for large models: always in short programs, and for a
// tenth of the time in those that wait for the device many times, where wrong code comes by again.
bool is_closing() {
  static const double started = now();
  const unsigned long number = memory().closings++;
  return policy().always_protect || number < 50 ||
         memory().protecting < 0.1 * (now() - started);
}

// Ends at the page's end, so that an overrun meets the guard page or the slack that is watched.
char* allocate(std::size_t bytes, int device) {
  Memory& all = memory();
  const std::size_t pages = round_up(bytes, kPage);
  char* first = all.top + kPage;
  all.top = first + pages;
  if (all.top + kPage > all.base + kSpan) die("out of device addresses");
  if (mprotect(first, pages, PROT_READ | PROT_WRITE) != 0) die("cannot map device memory");
  std::memset(first, kPoison, pages);
  if (!all.accessible[device]) mprotect(first, pages, PROT_NONE);
  char* at = first + (pages - round_up(bytes, kAlignment));
  all.live[at] = {bytes, device};
  all.used[device] += bytes;
  return at;
}
}  // namespace

Open::Open(int device) : device_(device) {
  std::lock_guard lock(memory().mutex);
  Memory& all = memory();
  if (all.open[device]++ || all.accessible[device]) return;
  protect(device, PROT_READ | PROT_WRITE);
  all.accessible[device] = true;
}

Open::~Open() {
  std::lock_guard lock(memory().mutex);
  Memory& all = memory();
  if (--all.open[device_] || !is_closing()) return;
  protect(device_, PROT_NONE);
  all.accessible[device_] = false;
}

void check_ends(int device, const std::string& what) {
  std::lock_guard lock(memory().mutex);
  for (const auto& [at, allocation] : memory().live) {
    if (allocation.device != device) continue;
    char* end = at + allocation.bytes;
    const bool after = poisoned(end, end_page(at, allocation.bytes));
    const bool before = poisoned(std::max(first_page(at), at - kAlignment), at);
    if (after && before) continue;
    die("memory %s the allocation of %zu bytes at %p was written; '%s' ran last",
        after ? "before" : "past the end of", allocation.bytes, static_cast<void*>(at),
        what.c_str());
  }
}

bool on_device(const void* at) {
  const Memory& all = memory();
  const char* byte = static_cast<const char*>(at);
  return all.base && byte >= all.base && byte < all.base + kSpan;
}

bool device_range(const void* at, std::size_t bytes) {
  std::lock_guard lock(memory().mutex);
  const auto found = find_holder(memory().live, at);
  if (found == memory().live.end()) return false;
  return static_cast<const char*>(at) + bytes <= found->first + found->second.bytes;
}

int owner_of(const void* at) {
  std::lock_guard lock(memory().mutex);
  const auto found = find_holder(memory().live, at);
  if (found == memory().live.end()) return -1;
  const bool inside = static_cast<const char*>(at) < found->first + found->second.bytes;
  return inside ? found->second.device : -1;
}

bool is_pinned(const void* at, std::size_t bytes) {
  std::lock_guard lock(memory().mutex);
  const auto found = find_holder(memory().pinned, at);
  if (found == memory().pinned.end()) return false;
  return static_cast<const char*>(at) + bytes <= found->first + found->second;
}

std::string describe(const void* at) {
  if (!on_device(at)) return "not device memory";
  std::unique_lock lock(memory().mutex, std::try_to_lock);
  if (!lock) return "device memory";
  const char* byte = static_cast<const char*>(at);
  const auto text = [](std::ptrdiff_t offset, const char* kind, const Allocation& allocation) {
    return "byte " + std::to_string(offset) + " of " + kind + " allocation of " +
           std::to_string(allocation.bytes) + " bytes on device " +
           std::to_string(allocation.device);
  };
  for (const std::size_t beyond : {std::size_t{0}, kPage}) {
    const auto live = find_holder(memory().live, at);
    if (live != memory().live.end() && byte < live->first + live->second.bytes + beyond) {
      return text(byte - live->first, "an", live->second);
    }
    const auto freed = find_holder(memory().freed, at);
    if (freed != memory().freed.end() && byte < freed->first + freed->second.bytes + beyond) {
      return text(byte - freed->first, "a freed", freed->second);
    }
  }
  const auto next = memory().live.upper_bound(const_cast<char*>(byte));
  const bool is_near = next != memory().live.end() && byte + 2 * kPage > next->first;
  return is_near ? text(byte - next->first, "an", next->second) : "no allocation";
}

std::string memory_leaks() {
  std::lock_guard lock(memory().mutex);
  std::size_t bytes = 0;
  std::string text;
  for (const auto& [at, allocation] : memory().live) bytes += allocation.bytes;
  if (bytes) {
    text += std::to_string(memory().live.size()) + " device allocations, " + std::to_string(bytes) +
            " bytes\n";
  }
  if (!memory().pinned.empty()) {
    text += std::to_string(memory().pinned.size()) + " pinned host ranges\n";
  }
  return text;
}

void fail_next_malloc() {
  std::lock_guard lock(memory().mutex);
  memory().next_fails = true;
}
}  // namespace hg

using namespace hg;

extern "C" {
cudaError_t cudaMalloc(void** out, size_t bytes) {
  if (const cudaError_t error = check_call()) return error;
  std::lock_guard lock(memory().mutex);
  *out = nullptr;
  if (bytes == 0) return set_error(cudaSuccess);
  reserve();
  const int device = current_device();
  if (memory().next_fails || memory().used[device] + bytes > policy().memory_mib << 20) {
    memory().next_fails = false;
    return set_error(cudaErrorMemoryAllocation);
  }
  *out = allocate(bytes, device);
  return set_error(cudaSuccess);
}

cudaError_t cudaFree(void* pointer) {
  if (!pointer) return set_error(cudaSuccess);
  if (const cudaError_t error = unsafe_call()) return error;
  const int device = owner_of(pointer);
  if (device >= 0) run_device(device);
  std::lock_guard lock(memory().mutex);
  char* at = static_cast<char*>(pointer);
  const auto found = memory().live.find(at);
  if (found == memory().live.end()) return set_error(cudaErrorInvalidValue);
  const std::size_t bytes = found->second.bytes;
  char* first = first_page(at);
  // A pointer that lives on, as in a graph, faults.
  mmap(first, end_page(at, bytes) - first, PROT_NONE,
       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  memory().used[device] -= bytes;
  memory().freed.insert(*found);
  memory().live.erase(found);
  return set_error(cudaSuccess);
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  std::lock_guard lock(memory().mutex);
  *total = policy().memory_mib << 20;
  *free = *total - memory().used[current_device()];
  return set_error(cudaSuccess);
}

cudaError_t cudaHostAlloc(void** out, size_t bytes, unsigned) {
  if (const cudaError_t error = check_call()) return error;
  *out = nullptr;
  if (bytes == 0) return set_error(cudaSuccess);
  void* at = std::aligned_alloc(kPage, round_up(bytes, kPage));
  if (!at) return set_error(cudaErrorMemoryAllocation);
  std::memset(at, kPoison, bytes);
  std::lock_guard lock(memory().mutex);
  memory().pinned[static_cast<char*>(at)] = bytes;
  memory().pinned_owned[static_cast<char*>(at)] = bytes;
  *out = at;
  return set_error(cudaSuccess);
}

cudaError_t cudaMallocHost(void** out, size_t bytes) { return cudaHostAlloc(out, bytes, 0); }

cudaError_t cudaFreeHost(void* pointer) {
  if (!pointer) return set_error(cudaSuccess);
  if (const cudaError_t error = unsafe_call()) return error;
  run_device(current_device());
  std::lock_guard lock(memory().mutex);
  if (!memory().pinned_owned.erase(static_cast<char*>(pointer))) {
    return set_error(cudaErrorInvalidValue);
  }
  memory().pinned.erase(static_cast<char*>(pointer));
  std::free(pointer);
  return set_error(cudaSuccess);
}

cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned) {
  std::lock_guard lock(memory().mutex);
  if (!pointer || bytes == 0) return set_error(cudaErrorInvalidValue);
  if (!memory().pinned.emplace(static_cast<char*>(pointer), bytes).second) {
    return set_error(cudaErrorHostMemoryAlreadyRegistered);
  }
  return set_error(cudaSuccess);
}

cudaError_t cudaHostUnregister(void* pointer) {
  run_device(current_device());
  std::lock_guard lock(memory().mutex);
  char* at = static_cast<char*>(pointer);
  if (memory().pinned_owned.count(at) || !memory().pinned.erase(at)) {
    return set_error(cudaErrorHostMemoryNotRegistered);
  }
  return set_error(cudaSuccess);
}

cudaError_t cudaHostGetDevicePointer(void** out, void* host, unsigned) {
  if (!is_pinned(host, 1)) return set_error(cudaErrorInvalidValue);
  *out = host;
  return set_error(cudaSuccess);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  *attributes = {};
  attributes->type = cudaMemoryTypeUnregistered;
  attributes->device = owner_of(pointer);
  if (attributes->device >= 0) {
    attributes->type = cudaMemoryTypeDevice;
    attributes->devicePointer = const_cast<void*>(pointer);
  } else if (is_pinned(pointer, 1)) {
    attributes->type = cudaMemoryTypeHost;
    attributes->hostPointer = attributes->devicePointer = const_cast<void*>(pointer);
  }
  return set_error(cudaSuccess);
}
}
