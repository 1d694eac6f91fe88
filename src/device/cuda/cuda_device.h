// The CUDA device, for the module that holds it.
#pragma once
#include <memory>

#include "device/cuda/cuda_impl.h"
#include "device/cuda/cuda_module.h"

namespace cohort::cuda {

// Error(Exit::usage) where there is no such device or the precision is unknown.
std::unique_ptr<Device> make_device(const CudaOptions& options);
// Of a device made above: its streams and handles.
Context& context_of(Device& device);

}  // namespace cohort::cuda
