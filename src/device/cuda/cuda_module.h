// What the CUDA module (libcohort_cuda.so) offers to the program that loads it. Loaded only where
// the config asks for it, so that the program runs on machines without CUDA.
#pragma once
#include <memory>
#include <string>

#include "device/device.h"

namespace cohort {

struct CudaOptions {
  int index = 0;                     // which of the devices that this process sees
  std::string precision = "f32";     // f32, tf32, bf16, f16
  bool graph = true;                 // record steps into CUDA graphs
};

struct Gpu {
  std::string name;
  std::string pci;                   // "0000:3B:00.0", which tells GPUs of a host apart
  i64 memory = 0;                    // bytes
};

}  // namespace cohort
