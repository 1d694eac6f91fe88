// The one symbol that the program looks for in libcohort_cuda.so.
#include "base/error.h"
#include "comm/nccl.h"
#include "device/cuda/gpus.h"

namespace cohort {
namespace {

std::string versions() {
  return fmt::format("{}, NCCL {}", cuda::library_versions(), nccl_version());
}

constexpr CudaModule table{cuda_layout(),     versions,          cuda::visible_gpus,
                           cuda::trouble,     cuda::make_device, cuda::free_memory,
                           make_nccl_reducer};

}  // namespace
}  // namespace cohort

extern "C" const cohort::CudaModule* cohort_cuda_module() { return &cohort::table; }
