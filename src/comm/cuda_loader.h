// The module for NVIDIA GPUs, libcohort_cuda.so: the CUDA device and NCCL. The program loads it when
// a config asks for a GPU, and runs without CUDA otherwise.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "device/cuda/cuda_module.h"

namespace cohort {

struct ReducerOptions {
  std::vector<View> memory;    // what ranges lie in: registered with NCCL where it supports that
  bool bf16 = false;           // f32 ranges travel as bf16, summed by NCCL in that type
  bool share = false;          // ranks share a GPU: for tests, slow
  double seconds = 120;        // within which all ranks must have met
};

// What the module offers. Errors are thrown as Error, as anywhere in the program.
struct CudaModule {
  u64 layout = 0;              // cuda_layout() of the module's build
  std::string (*versions)() = nullptr;   // "CUDA 13.0 (driver 13.0), cuDNN 9.19.0, NCCL 2.28.9"
  std::vector<Gpu> (*gpus)() = nullptr;  // in the order of CudaOptions::index; empty without any
  // Why none can be used, in CUDA's words; empty where there are some, or just none.
  std::string (*trouble)() = nullptr;
  std::unique_ptr<Device> (*make_device)(const CudaOptions& options) = nullptr;
  i64 (*free_memory)(Device& device) = nullptr;   // bytes
  // Collective. Of one rank: does nothing. The device outlives it; recordings of its work do not.
  std::unique_ptr<Reducer> (*make_reducer)(Device& device, Communicator& ranks,
                                           const ReducerOptions& options) = nullptr;
};
// Changes when what the program and the module pass to each other changes its size.
constexpr u64 cuda_layout() {
  u64 hash = 1;
  for (u64 size : {sizeof(CudaModule), sizeof(Call), sizeof(DenseUpdate), sizeof(RowUpdate),
                   sizeof(NormCall), sizeof(DecideCall), sizeof(Decision), sizeof(Scalars),
                   sizeof(Slot), sizeof(Node), sizeof(Graph), sizeof(Needs), sizeof(CudaOptions),
                   sizeof(ReducerOptions), sizeof(Gpu)})
    hash = hash * 1000003 + size;
  return hash;
}

// The file that COHORT_CUDA_MODULE names (a plain name: beside the program), else libcohort_cuda.so
// beside the program or in ../lib. Error(Exit::usage) where there is none or it cannot be loaded.
const CudaModule& cuda_module();
const CudaModule& load_cuda_module(const std::string& file);

// This rank's GPU, as CudaOptions::index: each rank of a host takes its own of those that it sees.
// Collective. Error(Exit::usage) on every rank, naming the first rank that has none or would share
// one, unless `share`.
int choose_gpu(World& world, const std::vector<Gpu>& gpus, bool share);

}  // namespace cohort
