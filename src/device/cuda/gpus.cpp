#include "device/cuda/gpus.h"

#include <array>

namespace cohort::cuda {
namespace {

std::string dotted(int version) {   // 13000: 13.0
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

Gpu gpu_at(int index) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  std::array<char, 32> pci{};
  check(cudaDeviceGetPCIBusId(pci.data(), static_cast<int>(pci.size()), index),
        "cudaDeviceGetPCIBusId");
  return {properties.name, pci.data(), static_cast<i64>(properties.totalGlobalMem)};
}

}  // namespace

std::vector<Gpu> visible_gpus() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());   // no driver: not an error here
    return {};
  }
  std::vector<Gpu> gpus;
  for (int index = 0; index < count; ++index) gpus.push_back(gpu_at(index));
  return gpus;
}

std::string trouble() {
  int count = 0;
  const cudaError_t found = cudaGetDeviceCount(&count);
  if (found == cudaSuccess) return "";
  static_cast<void>(cudaGetLastError());
  return found == cudaErrorNoDevice ? "" : cudaGetErrorString(found);
}

std::string library_versions() {
  int runtime = 0, driver = 0;
  check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  const auto dnn = static_cast<int>(cudnnGetVersion());
  return fmt::format("CUDA {} (driver {}), cuDNN {}.{}.{}", dotted(runtime), dotted(driver),
                     dnn / 10000, dnn % 10000 / 100, dnn % 100);
}

i64 free_memory(Device&) {
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return static_cast<i64>(free);
}

}  // namespace cohort::cuda
