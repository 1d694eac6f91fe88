// What ThreadSanitizer is told: every CUDA thread is a thread of its own, ordered with others only
// by barriers, warp operations and the end of a grid. Nothing without HG_TSAN. With it the kernels
// are instrumented, the executor is not, and on a fiber it must not call what is intercepted (new,
// delete, memcpy, memset).
#pragma once
#include <cstddef>
#ifdef HG_TSAN
#include <sanitizer/tsan_interface.h>

extern "C" void AnnotateBenignRaceSized(const char* file, int line, const volatile void* at,
                                        std::size_t bytes, const char* why);
#endif

namespace hg {
#ifdef HG_TSAN
constexpr bool kRaceCheck = true;
inline void race_acquire(const void* tag) { __tsan_acquire(const_cast<void*>(tag)); }
inline void race_release(const void* tag) { __tsan_release(const_cast<void*>(tag)); }
// Stacks pass from one CUDA thread to the next, unordered.
inline void race_stack(const void* at, std::size_t bytes) {
  AnnotateBenignRaceSized(__FILE__, __LINE__, at, bytes, "stack of CUDA threads");
}
inline void* race_here() { return __tsan_get_current_fiber(); }
inline void* race_new() { return __tsan_create_fiber(0); }
inline void race_delete(void* fiber) { __tsan_destroy_fiber(fiber); }
inline void race_switch(void* fiber) {
  __tsan_switch_to_fiber(fiber, __tsan_switch_to_fiber_no_sync);
}
#else
constexpr bool kRaceCheck = false;
inline void race_acquire(const void*) {}
inline void race_release(const void*) {}
inline void race_stack(const void*, std::size_t) {}
inline void* race_here() { return nullptr; }
inline void* race_new() { return nullptr; }
inline void race_delete(void*) {}
inline void race_switch(void*) {}
#endif
}  // namespace hg
