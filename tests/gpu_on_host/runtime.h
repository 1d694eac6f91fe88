// What the parts of the stand-in share: the one door through which work reaches a device, errors,
// checks of pointers, and the policy that says in which order things happen.
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <string>

namespace hg {
// The order of blocks and threads inside a kernel; drawn anew at each barrier when random.
enum class Order { forward, reverse, random };
// When enqueued work runs. Lazy: only when the host waits, only what it waits for, newest first.
// Random: some more, in any order that dependencies allow. Eager: at once (the friendliest order).
enum class When { lazy, random, eager };

struct Policy {
  Order order = Order::random;      // HG_ORDER=forward|reverse|random
  When when = When::lazy;           // HG_WHEN=lazy|random|eager
  unsigned seed = 1;                // HG_SEED
  int devices = 1;                  // HG_DEVICES, at most 16
  std::size_t memory_mib = 4096;    // HG_MEMORY_MIB, of each device
  bool fail_on_leaks = false;       // HG_LEAKS=1: at exit what was never destroyed is an error
  bool always_protect = false;      // HG_PROTECT=1: device memory is closed at every return to the
                                    // host, not only the first 50 times and as often as is cheap
  std::string wrong;                // HG_WRONG=product|convolution|sum|copy: such results are wrong;
                                    // hang: sums over ranks never end; slow: kernels take 40 ms more
  bool trace = false;               // HG_TRACE=1: every operation that runs, on standard error
};
// Read from the environment at first use. Tests change it while no work is pending.
Policy& policy();

// Kernels, copies and library calls all come through here. The work becomes the newest operation of
// the stream or, while the stream is being captured, a node of the graph. It may touch the memory
// of the stream's device; it runs later, perhaps on another host thread, perhaps several times (a
// graph), never at the same time as an operation that depends on it. `what` names it in messages.
cudaError_t enqueue(cudaStream_t stream, std::string what, std::function<void()> work);
// Called at once and never by operations: the device of a stream.
int device_of(cudaStream_t stream);
bool is_capturing(cudaStream_t stream);

// Remembers the error for cudaGetLastError() and returns it, or the sticky one of this device.
cudaError_t set_error(cudaError_t error);
// Every later call on the current device fails with this one.
void inject_sticky(cudaError_t error);
void clear_sticky();
void fail_next_malloc();

// The bytes lie wholly inside one live allocation of any device.
bool device_range(const void* at, std::size_t bytes);

// The device makes progress although no host thread waits: needed once ranks wait for each other.
void progress_thread();

// Prints the message, with block and thread when called inside a kernel, and aborts. For wrong use
// that a real device would answer with a hang or silent corruption.
[[noreturn]] void die(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Objects made and not yet destroyed: count("cuDNN handle", +1) when made, -1 when destroyed.
void count(const char* kind, int change);
// One line per kind of object alive, device and pinned memory included; empty when there is none.
std::string leaks();
}  // namespace hg
