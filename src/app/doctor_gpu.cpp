// GPUs: what each rank sees, the versions of the libraries, memory and sums over ranks.
#include <filesystem>

#include "app/doctor.h"
#include "base/text.h"
#include "comm/cuda_loader.h"

namespace cohort {
namespace {

bool driver_there() {
  std::error_code code;
  return std::filesystem::exists("/dev/nvidiactl", code) ||
         std::filesystem::exists("/proc/driver/nvidia/version", code);
}

// The module, or nothing: then a finding tells why.
const CudaModule* find_module(Doctor& d) {
  try {
    return &cuda_module();
  } catch (const Error& e) {
    if (driver_there()) {
      d.add({"GPU", Fitness::warn, fmt::format("there is an NVIDIA driver, but no module: {}", e.what()),
             "build the module, or train on the CPU (device.kind: cpu)"});
    } else {
      d.add({"GPU", Fitness::ok, "no GPU here, and no module for GPUs"});
    }
    return nullptr;
  }
}

}  // namespace

void examine_gpus(Doctor& d) {
  const CudaModule* module = find_module(d);
  if (!module) return;
  d.attempt("GPU", Exit::usage, [&] {
    const std::vector<Gpu> gpus = module->gpus();
    std::vector<std::string> names;
    for (const Gpu& gpu : gpus)
      names.push_back(fmt::format("{} ({}, {})", gpu.name, gpu.pci, human_bytes(gpu.memory)));
    d.add({"GPU", Fitness::ok,
           gpus.empty() ? "no GPU here" : fmt::format("{}; {}", module->versions(), join(names, ", "))});
  });
}

}  // namespace cohort
