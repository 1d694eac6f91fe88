// What the tests of the CUDA device need to know of where they run: on a GPU, or on the stand-in.
#pragma once
#include <functional>
#include <string>

#include "device/cuda/cuda_device.h"

#if defined(COHORT_GPU_ON_HOST)
#include "runtime.h"
#endif

namespace cohort::test {

// Calls body with a name of the order in which threads and streams run. On a GPU: twice, in the
// hardware's order.
inline void for_each_order(const std::function<void(const std::string&)>& body) {
#if defined(COHORT_GPU_ON_HOST)
  const hg::Policy before = hg::policy();
  const auto with = [&](hg::Order order, hg::When when, unsigned seed, const char* name) {
    hg::policy().order = order;
    hg::policy().when = when;
    hg::policy().seed = seed;
    body(name);
  };
  with(hg::Order::forward, hg::When::eager, 1, "forward, eager");
  with(hg::Order::reverse, hg::When::lazy, 1, "reverse, lazy");
  with(hg::Order::random, hg::When::random, 2, "random 2");
  with(hg::Order::random, hg::When::random, 3, "random 3");
  hg::policy() = before;
#else
  for (const char* name : {"once", "again"}) body(name);
#endif
}

// Ranks as threads: as many devices as ranks, or one that they share.
inline int device_of_rank(int rank, int world) {
#if defined(COHORT_GPU_ON_HOST)
  hg::policy().devices = world;
  return rank;
#else
  int devices = 1;
  cuda::check(cudaGetDeviceCount(&devices), "cudaGetDeviceCount");
  return rank % std::min(devices, world);
#endif
}

}  // namespace cohort::test
