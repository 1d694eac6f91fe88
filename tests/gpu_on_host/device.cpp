// Policy, errors, what devices are, and the limits of launches.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <thread>

#include "exec.h"
#include "memory.h"
#include "schedule.h"

namespace hg {
namespace {
// What the weakest of the supported architectures can do, but bf16 and all libraries as on sm_90.
constexpr int kMajor = 9;
constexpr int kMinor = 0;
constexpr int kMultiprocessors = 4;
constexpr int kThreadsPerMultiprocessor = 1024;
constexpr int kDriverVersion = 13000;

thread_local int device_now = 0;
thread_local cudaError_t last_error = cudaSuccess;
std::atomic<int> sticky[kMaxDevices];

std::mutex counts_mutex;
std::map<std::string, int>& counts() {
  static auto& all = *new std::map<std::string, int>;
  return all;
}

std::mutex attributes_mutex;
std::map<const void*, int>& dynamic_limits() {
  static auto& all = *new std::map<const void*, int>;
  return all;
}

int dynamic_limit(const void* function) {
  std::lock_guard lock(attributes_mutex);
  const auto found = dynamic_limits().find(function);
  return found == dynamic_limits().end() ? static_cast<int>(kStaticSharedLimit) : found->second;
}

long number(const char* name, long otherwise, long least, long most) {
  const char* text = std::getenv(name);
  if (!text || !*text) return otherwise;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*end || value < least || value > most) {
    die("%s=%s: expected a number from %ld to %ld", name, text, least, most);
  }
  return value;
}

template <class E>
E choice(const char* name, E otherwise, const char* const (&names)[3]) {
  const char* text = std::getenv(name);
  if (!text || !*text) return otherwise;
  for (int i = 0; i < 3; ++i) {
    if (!std::strcmp(text, names[i])) return static_cast<E>(i);
  }
  die("%s=%s: expected %s, %s or %s", name, text, names[0], names[1], names[2]);
}

void report_leaks() {
  const std::string text = leaks();
  if (text.empty() || !policy().fail_on_leaks) return;
  std::fprintf(stderr, "gpu_on_host: never destroyed:\n%s", text.c_str());
  std::fflush(nullptr);
  _exit(1);
}

Policy read_policy() {
  Policy p;
  p.order = choice("HG_ORDER", p.order, {"forward", "reverse", "random"});
  p.when = choice("HG_WHEN", p.when, {"lazy", "random", "eager"});
  p.seed = static_cast<unsigned>(number("HG_SEED", p.seed, 0, 1L << 31));
  p.devices = static_cast<int>(number("HG_DEVICES", p.devices, 0, kMaxDevices));
  p.memory_mib = static_cast<std::size_t>(
      number("HG_MEMORY_MIB", static_cast<long>(p.memory_mib), 1, 1L << 20));
  p.fail_on_leaks = number("HG_LEAKS", 0, 0, 1) != 0;
  p.always_protect = number("HG_PROTECT", 0, 0, 1) != 0;
  if (const char* wrong = std::getenv("HG_WRONG")) p.wrong = wrong;
  p.trace = number("HG_TRACE", 0, 0, 1) != 0;
  std::atexit(report_leaks);
  runtime().random.state = p.seed;
  return p;
}
}  // namespace

Policy& policy() {
  static Policy& only = *new Policy(read_policy());
  return only;
}

int current_device() { return device_now; }
cudaError_t sticky_error(int device) { return static_cast<cudaError_t>(sticky[device].load()); }
void set_sticky(int device, cudaError_t error) { sticky[device] = error; }
void inject_sticky(cudaError_t error) { sticky[device_now] = error; }
void clear_sticky() {
  sticky[device_now] = cudaSuccess;
  last_error = cudaSuccess;
}

cudaError_t set_error(cudaError_t error) {
  if (const cudaError_t stays = sticky_error(device_now)) error = stays;
  if (error) last_error = error;
  return error;
}

void count(const char* kind, int change) {
  std::lock_guard lock(counts_mutex);
  counts()[kind] += change;
}

std::string leaks() {
  std::string text = memory_leaks();
  std::lock_guard lock(counts_mutex);
  for (const auto& [kind, alive] : counts()) {
    if (alive) text += std::to_string(alive) + " of " + kind + "\n";
  }
  return text;
}

static bool sizes_fit(const Kernel& kernel) {
  const dim3 grid = kernel.grid;
  const dim3 block = kernel.block;
  if (block.x > 1024 || block.y > 1024 || block.z > 64) return false;
  const unsigned threads = block.x * block.y * block.z;
  if (threads == 0 || threads > 1024) return false;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return false;
  return grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535;
}

cudaError_t launch(const cudaLaunchConfig_t& config, Kernel kernel) {
  if (config.numAttrs) die("launch attributes are not supported");
  if (!sizes_fit(kernel)) return set_error(cudaErrorInvalidConfiguration);
  if (kernel.shared_bytes > static_cast<std::size_t>(dynamic_limit(kernel.function))) {
    return set_error(cudaErrorInvalidValue);
  }
  std::string name = kernel_name(kernel.function);
  Work work{"kernel " + std::move(name), nullptr, cudaGraphNodeTypeKernel};
  work.run = [kernel = std::move(kernel)] {
    if (policy().wrong == "slow") std::this_thread::sleep_for(std::chrono::milliseconds(40));
    run_grid(kernel);
  };
  return enqueue_work(config.stream, std::move(work));
}
}  // namespace hg

using namespace hg;

extern "C" {
cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() {
  const cudaError_t stays = sticky_error(device_now);
  return stays ? stays : last_error;
}

const char* cudaGetErrorName(cudaError_t error) {
#define HG_NAME(name) \
  case name: return #name
  switch (error) {
    HG_NAME(cudaSuccess);
    HG_NAME(cudaErrorInvalidValue);
    HG_NAME(cudaErrorMemoryAllocation);
    HG_NAME(cudaErrorInvalidConfiguration);
    HG_NAME(cudaErrorInvalidPitchValue);
    HG_NAME(cudaErrorInvalidMemcpyDirection);
    HG_NAME(cudaErrorNoDevice);
    HG_NAME(cudaErrorInvalidDevice);
    HG_NAME(cudaErrorInvalidResourceHandle);
    HG_NAME(cudaErrorIllegalState);
    HG_NAME(cudaErrorNotReady);
    HG_NAME(cudaErrorIllegalAddress);
    HG_NAME(cudaErrorHostMemoryAlreadyRegistered);
    HG_NAME(cudaErrorHostMemoryNotRegistered);
    HG_NAME(cudaErrorLaunchFailure);
    HG_NAME(cudaErrorNotSupported);
    HG_NAME(cudaErrorStreamCaptureUnsupported);
    HG_NAME(cudaErrorStreamCaptureInvalidated);
    HG_NAME(cudaErrorStreamCaptureMerge);
    HG_NAME(cudaErrorStreamCaptureUnmatched);
    HG_NAME(cudaErrorStreamCaptureUnjoined);
    HG_NAME(cudaErrorStreamCaptureIsolation);
    HG_NAME(cudaErrorStreamCaptureWrongThread);
    HG_NAME(cudaErrorCapturedEvent);
    default: return "cudaErrorUnknown";
  }
#undef HG_NAME
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    default: return cudaGetErrorName(error);
  }
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return set_error(cudaSuccess);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) {
    die("cudaFuncSetAttribute: attribute %d is not supported", static_cast<int>(attribute));
  }
  if (value < 0 || value > static_cast<int>(kSharedLimit)) return set_error(cudaErrorInvalidValue);
  std::lock_guard lock(attributes_mutex);
  dynamic_limits()[function] = value;
  return set_error(cudaSuccess);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->numRegs = 32;
  attributes->maxDynamicSharedSizeBytes = dynamic_limit(function);
  attributes->binaryVersion = attributes->ptxVersion = kMajor * 10 + kMinor;
  return set_error(cudaSuccess);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function,
                                                          int threads, size_t shared_bytes) {
  if (threads <= 0 || threads > 1024) return set_error(cudaErrorInvalidValue);
  *blocks = kThreadsPerMultiprocessor / threads;
  if (shared_bytes > static_cast<std::size_t>(dynamic_limit(function))) *blocks = 0;
  if (shared_bytes) *blocks = std::min(*blocks, static_cast<int>(kSharedLimit / shared_bytes));
  return set_error(cudaSuccess);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks,
                                                                   const void* function,
                                                                   int threads, size_t bytes,
                                                                   unsigned) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads, bytes);
}

cudaError_t cudaGetDeviceCount(int* devices) {
  *devices = policy().devices;
  return set_error(*devices ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= policy().devices) return set_error(cudaErrorInvalidDevice);
  device_now = device;
  return set_error(cudaSuccess);
}

cudaError_t cudaGetDevice(int* device) {
  *device = device_now;
  return set_error(cudaSuccess);
}

cudaError_t cudaInitDevice(int device, unsigned, unsigned) {
  if (device < 0 || device >= policy().devices) return set_error(cudaErrorInvalidDevice);
  return set_error(cudaSuccess);
}

cudaError_t cudaSetDeviceFlags(unsigned) { return set_error(cudaSuccess); }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= policy().devices) return set_error(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "Stand-in on the host");
  properties->totalGlobalMem = policy().memory_mib << 20;
  properties->sharedMemPerBlock = kStaticSharedLimit;
  properties->sharedMemPerBlockOptin = kSharedLimit;
  properties->sharedMemPerMultiprocessor = kSharedLimit;
  properties->regsPerBlock = properties->regsPerMultiprocessor = 65536;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = kThreadsPerMultiprocessor;
  properties->multiProcessorCount = kMultiprocessors;
  properties->major = kMajor;
  properties->minor = kMinor;
  properties->pciBusID = 0x10 + device;
  properties->unifiedAddressing = 1;
  properties->asyncEngineCount = 2;
  const int block[3] = {1024, 1024, 64};
  const int grid[3] = {0x7fffffff, 65535, 65535};
  std::copy(block, block + 3, properties->maxThreadsDim);
  std::copy(grid, grid + 3, properties->maxGridSize);
  return set_error(cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device < 0 || device >= policy().devices) return set_error(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = kMajor; break;
    case cudaDevAttrComputeCapabilityMinor: *value = kMinor; break;
    case cudaDevAttrMultiProcessorCount: *value = kMultiprocessors; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = kThreadsPerMultiprocessor; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = kStaticSharedLimit; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = kSharedLimit; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = kSharedLimit; break;
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrPciBusId: *value = 0x10 + device; break;
    case cudaDevAttrPciDeviceId:
    case cudaDevAttrPciDomainId: *value = 0; break;
    case cudaDevAttrL2CacheSize: *value = 4 << 20; break;
    case cudaDevAttrCooperativeLaunch: *value = 0; break;
    default: die("cudaDeviceGetAttribute: attribute %d is not supported", int(attribute));
  }
  return set_error(cudaSuccess);
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  if (device < 0 || device >= policy().devices) return set_error(cudaErrorInvalidDevice);
  if (length < 13) return set_error(cudaErrorInvalidValue);
  std::snprintf(text, static_cast<std::size_t>(length), "0000:%02X:00.0", 0x10 + device);
  return set_error(cudaSuccess);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return set_error(cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = kDriverVersion;
  return set_error(cudaSuccess);
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return set_error(cudaSuccess);
}
}
