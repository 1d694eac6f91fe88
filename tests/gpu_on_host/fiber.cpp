#include "fiber.h"

#include <sys/mman.h>

#include "exec.h"
#include "race.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace hg {
namespace ctx = boost::context::detail;

namespace {
constexpr std::size_t kPage = 4096;
#if defined(__SANITIZE_ADDRESS__) || defined(HG_TSAN)
constexpr std::size_t kStackBytes = 512 * 1024;  // reports are made on them
#else
constexpr std::size_t kStackBytes = 128 * 1024;
#endif

struct Switch {  // travels with each jump
  Fiber* from;
  Fiber* to;
};

void leaving([[maybe_unused]] Fiber* from, [[maybe_unused]] Fiber* to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_bytes);
#endif
}

void arrived(ctx::transfer_t transfer) {
  Switch* jump = static_cast<Switch*>(transfer.data);
  jump->from->context = transfer.fctx;
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(jump->to->fake_stack, &bottom, &bytes);
  if (!jump->from->stack) {  // the host thread's own stack, first left now
    jump->from->stack = static_cast<char*>(const_cast<void*>(bottom));
    jump->from->stack_bytes = bytes;
  }
#endif
}

using Entry = void (*)(Fiber*);
}  // namespace

Fiber* new_fiber(Entry entry) {
  static thread_local Entry start = nullptr;
  start = entry;
  auto* fiber = new Fiber;
  void* stack = mmap(nullptr, kStackBytes + kPage, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stack == MAP_FAILED) die("no memory for the stack of a CUDA thread");
  mprotect(stack, kPage, PROT_NONE);  // an overflow faults
  fiber->stack = static_cast<char*>(stack) + kPage;
  fiber->stack_bytes = kStackBytes;
  race_stack(fiber->stack, kStackBytes);
  // Tops at the same place of a page would all compete for the same lines of the caches.
  static thread_local unsigned made = 0;
  const std::size_t shift = made++ % 64 * 576;
  fiber->context = ctx::make_fcontext(fiber->stack + kStackBytes - shift, kStackBytes - shift,
                                      [](ctx::transfer_t transfer) {
                                        Fiber* self = static_cast<Switch*>(transfer.data)->to;
                                        arrived(transfer);
                                        start(self);
                                        __builtin_trap();  // an entry never returns
                                      });
  return fiber;
}

void delete_fiber(Fiber* fiber) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fiber->stack, fiber->stack_bytes);
#endif
  munmap(fiber->stack - kPage, fiber->stack_bytes + kPage);
  delete fiber;
}

void switch_fiber(Fiber* self, Fiber* next) {
  Switch jump{self, next};
  leaving(self, next);
  arrived(ctx::jump_fcontext(next->context, &jump));
}
}  // namespace hg
