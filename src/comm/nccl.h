// Sums over ranks of GPU memory, by NCCL on a stream of its own, while the device computes on.
#pragma once
#include <memory>

#include "comm/cuda_loader.h"

namespace cohort {

// Collective: rank 0's unique id goes to all over `ranks`, which carries nothing else.
std::unique_ptr<Reducer> make_nccl_reducer(Device& device, Communicator& ranks,
                                           const ReducerOptions& options);
std::string nccl_version();   // of the library that is loaded

}  // namespace cohort
