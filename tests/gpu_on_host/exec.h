// Runs kernels: one fiber per CUDA thread that waits, in an order that is meant to hurt.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <memory>

#include "runtime.h"

namespace hg {
struct Fiber;
enum class ThreadState : unsigned char { fresh, ready, at_barrier, in_warp, done };

struct Thread {  // a CUDA thread
  uint3 index;
  unsigned linear;  // in the block
  unsigned lane;    // in the warp
  ThreadState state;
  Fiber* fiber;
  void* race;  // its ThreadSanitizer fiber
};

// Variables, not macros, since cudaLaunchConfig_t has members of these names. Initial-exec: one
// instruction to reach, also in a library that was loaded with dlopen.
#define HG_FAST_TLS __attribute__((tls_model("initial-exec")))
extern __thread Thread* current HG_FAST_TLS;  // null outside kernels

struct Kernel {
  const void* function = nullptr;
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;
  void (*invoke)(const void* arguments) = nullptr;  // one CUDA thread
  std::shared_ptr<const void> arguments;
};

void run_grid(const Kernel& kernel);
// Forgets the fibers of this host thread after a fault inside a kernel.
void abandon_grid();
// "block (0,0,0) thread (1,0,0)"; empty outside kernels.
std::string place_in_grid();
// The name of a function, also of one with internal linkage where the binary has its symbols.
std::string kernel_name(const void* function);

// Checks limits and enqueues: what cudaLaunchKernelEx() does.
cudaError_t launch(const cudaLaunchConfig_t& config, Kernel kernel);

// What kernels call.
void barrier();
enum class Vote { count, all, any };
int barrier_vote(Vote vote, int predicate);
// The values of all lanes of the mask, valid until the lane's second next operation on that mask.
const unsigned long long* warp_exchange(unsigned mask, unsigned long long value);
void warp_sync(unsigned mask);
void fence();
void* static_shared(const void* key, std::size_t bytes, std::size_t alignment);
void* dynamic_shared();
constexpr std::size_t kStaticSharedLimit = 48 * 1024;
constexpr std::size_t kSharedLimit = 64 * 1024;  // of sm_75, the least
}  // namespace hg

extern __thread uint3 threadIdx HG_FAST_TLS;
extern __thread uint3 blockIdx HG_FAST_TLS;
extern __thread uint3 blockDim HG_FAST_TLS;
extern __thread uint3 gridDim HG_FAST_TLS;
constexpr int warpSize = 32;
