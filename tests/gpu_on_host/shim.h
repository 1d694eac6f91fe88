// Included before anything else (-include) when a .cu source is compiled for the host as C++.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <atomic>
#include <memory>
#include <tuple>
#include <type_traits>

#include "exec.h"
#include "intrinsics.h"

#undef __launch_bounds__
#define __launch_bounds__(...)

// The two macros of the kernels; their own header defines them only where these are absent.
#define STATIC_SHARED(T, name, ...)                                                        \
  using name##_type_ = T __VA_ARGS__;                                                      \
  static const char name##_key_ = 0;                                                       \
  name##_type_& name = *static_cast<name##_type_*>(                                        \
      ::hg::static_shared(&name##_key_, sizeof(name##_type_), alignof(name##_type_)))
#define DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(::hg::dynamic_shared())
#define cudaLaunchKernelEx ::hg::launch_kernel

namespace hg {
// As the official template: parameters take the kernel's types and are copied at the launch.
template <class... P, class... A>
cudaError_t launch_kernel(const cudaLaunchConfig_t* config, void (*function)(P...), A&&... a) {
  using Arguments = std::tuple<void (*)(P...), std::tuple<std::remove_cv_t<P>...>>;
  Kernel kernel;
  kernel.function = reinterpret_cast<const void*>(function);
  kernel.grid = config->gridDim;
  kernel.block = config->blockDim;
  kernel.shared_bytes = config->dynamicSmemBytes;
  kernel.arguments = std::make_shared<const Arguments>(
      function, std::tuple<std::remove_cv_t<P>...>(static_cast<P>(a)...));
  kernel.invoke = [](const void* arguments) {
    const auto& [run, values] = *static_cast<const Arguments*>(arguments);
    std::apply(run, values);
  };
  return launch(*config, std::move(kernel));
}

template <class T>
unsigned long long to_bits(T value) {
  static_assert(sizeof value <= 8, "shuffle of more than 8 bytes");
  unsigned long long bits = 0;
  __builtin_memcpy(&bits, &value, sizeof value);
  return bits;
}

template <class T>
T from_bits(unsigned long long bits) {
  T value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

// `source` maps the lane within the segment of `width` lanes to the one that is read.
template <class T, class Source>
T shuffle(unsigned mask, T value, int width, Source source) {
  const unsigned long long* values = warp_exchange(mask, to_bits(value));
  const unsigned base = current->lane & ~static_cast<unsigned>(width - 1);
  const int from = source(static_cast<int>(current->lane - base));
  if (from < 0 || from >= width) return value;
  const unsigned lane = base + static_cast<unsigned>(from);
  if (!(mask >> lane & 1)) die("shuffle reads lane %u, which is not in mask %08x", lane, mask);
  return from_bits<T>(values[lane]);
}

template <class T, class F>
T atomic_update(T* at, F change) {
  std::atomic_ref<T> reference(*at);
  T old = reference.load(std::memory_order_relaxed);
  while (!reference.compare_exchange_weak(old, change(old), std::memory_order_relaxed)) {
  }
  return old;
}
}  // namespace hg

inline void __syncthreads() { hg::barrier(); }
inline int __syncthreads_count(int p) { return hg::barrier_vote(hg::Vote::count, p); }
inline int __syncthreads_and(int p) { return hg::barrier_vote(hg::Vote::all, p); }
inline int __syncthreads_or(int p) { return hg::barrier_vote(hg::Vote::any, p); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { hg::warp_sync(mask); }
inline void __threadfence() { hg::fence(); }
inline void __threadfence_block() { hg::fence(); }
[[noreturn]] inline void __trap() { hg::die("__trap()"); }

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  return hg::shuffle(mask, value, width, [=](int) { return source & (width - 1); });
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  return hg::shuffle(mask, value, width, [=](int lane) { return lane ^ lanes; });
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return hg::shuffle(mask, value, width, [=](int lane) { return lane + static_cast<int>(delta); });
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return hg::shuffle(mask, value, width, [=](int lane) { return lane - static_cast<int>(delta); });
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const unsigned long long* values = hg::warp_exchange(mask, predicate != 0);
  unsigned result = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (mask >> lane & 1 && values[lane]) result |= 1u << lane;
  }
  return result;
}
inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, p) == mask; }

// The value's type follows the pointer, as with the overloads of CUDA.
template <class T>
T atomicAdd(T* at, std::type_identity_t<T> value) {
  return hg::atomic_update(at, [=](T old) { return old + value; });
}
template <class T>
T atomicSub(T* at, std::type_identity_t<T> value) {
  return hg::atomic_update(at, [=](T old) { return old - value; });
}
template <class T>
T atomicMax(T* at, std::type_identity_t<T> value) {
  return hg::atomic_update(at, [=](T old) { return old > value ? old : value; });
}
template <class T>
T atomicMin(T* at, std::type_identity_t<T> value) {
  return hg::atomic_update(at, [=](T old) { return old < value ? old : value; });
}
template <class T>
T atomicOr(T* at, std::type_identity_t<T> value) {
  return hg::atomic_update(at, [=](T old) { return old | value; });
}
template <class T>
T atomicAnd(T* at, std::type_identity_t<T> value) {
  return hg::atomic_update(at, [=](T old) { return old & value; });
}
template <class T>
T atomicExch(T* at, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*at).exchange(value, std::memory_order_relaxed);
}
template <class T>
T atomicCAS(T* at, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  std::atomic_ref<T>(*at).compare_exchange_strong(expected, value, std::memory_order_relaxed);
  return expected;
}
inline unsigned atomicInc(unsigned* at, unsigned limit) {
  return hg::atomic_update(at, [=](unsigned old) { return old >= limit ? 0u : old + 1; });
}

// The GPU's clock: kernels read it where this is absent.
#define NANOSECONDS()                                                              \
  ([] {                                                                            \
    timespec now{};                                                                \
    clock_gettime(CLOCK_MONOTONIC, &now);                                          \
    return static_cast<cohort::u64>(now.tv_sec * 1'000'000'000L + now.tv_nsec);        \
  }())
