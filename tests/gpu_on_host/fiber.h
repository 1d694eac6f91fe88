// A stack of its own for each CUDA thread that waits (Boost.Context's fcontext).
#pragma once
#include <boost/context/detail/fcontext.hpp>
#include <cstddef>

namespace hg {
struct Thread;

struct Fiber {
  boost::context::detail::fcontext_t context = nullptr;
  Thread* thread = nullptr;  // what runs or waits on it
  char* stack = nullptr;     // lowest byte; null for the stack of the host thread
  std::size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // of AddressSanitizer
};

Fiber* new_fiber(void (*entry)(Fiber* self));
void delete_fiber(Fiber* fiber);
// Leaves `self` for `next`; returns when something switches to `self` again.
void switch_fiber(Fiber* self, Fiber* next);
}  // namespace hg
