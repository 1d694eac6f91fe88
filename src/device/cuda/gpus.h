// What the module tells of GPUs and libraries.
#pragma once
#include <string>
#include <vector>

#include "device/cuda/cuda_device.h"

namespace cohort::cuda {

std::vector<Gpu> visible_gpus();    // empty without GPU or driver
std::string trouble();              // why none can be used; empty where there are, or just none
std::string library_versions();     // "CUDA 13.0 (driver 13.0), cuDNN 9.19.0"
i64 free_memory(Device& device);    // bytes; on the thread that made the device

}  // namespace cohort::cuda
