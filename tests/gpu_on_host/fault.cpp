#include "fault.h"

#include <unistd.h>

#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "exec.h"
#include "memory.h"
#include "race.h"

namespace hg {
namespace {
struct Guard {
  sigjmp_buf back;
  const char* address = nullptr;
  std::string place;
  Guard* outer = nullptr;
};
thread_local Guard* guard = nullptr;
struct sigaction previous[2];  // SIGSEGV, SIGBUS

void on_fault(int signal, siginfo_t* info, void*) {
  if (guard) {
    guard->address = static_cast<const char*>(info->si_addr);
    guard->place = place_in_grid();  // not safe in a handler, but the work has failed anyway
    siglongjmp(guard->back, 1);
  }
  if (on_device(info->si_addr)) {
    std::fprintf(stderr,
                 "gpu_on_host: host code touches device memory at %p (%s): copy it with "
                 "cudaMemcpyAsync\n",
                 info->si_addr, describe(info->si_addr).c_str());
  }
  sigaction(signal, &previous[signal == SIGBUS], nullptr);  // faults again, as without us
}

void install() {
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigaction(SIGSEGV, &action, &previous[0]);
  sigaction(SIGBUS, &action, &previous[1]);
}

// A stack overflow on a fiber leaves no room for the handler.
struct AlternateStack {
  std::vector<char> memory = std::vector<char>(64 * 1024);
  AlternateStack() {
    stack_t old{};
    sigaltstack(nullptr, &old);
    if (!(old.ss_flags & SS_DISABLE)) return;  // a sanitizer has made one
    stack_t stack{};
    stack.ss_sp = memory.data();
    stack.ss_size = memory.size();
    mine = sigaltstack(&stack, nullptr) == 0;
  }
  ~AlternateStack() {
    stack_t off{};
    off.ss_flags = SS_DISABLE;
    if (mine) sigaltstack(&off, nullptr);
  }
  bool mine = false;
};
}  // namespace

void install_fault_handler() {
  static std::once_flag once;
  std::call_once(once, install);
}

bool run_guarded(const std::string& what, const std::function<void()>& work) {
  if (kRaceCheck) {
    work();
    return true;
  }
  static thread_local AlternateStack alternate;
  install_fault_handler();
  Guard mine;
  mine.outer = guard;
  if (sigsetjmp(mine.back, 0) == 0) {
    guard = &mine;
    work();
    guard = mine.outer;
    return true;
  }
  guard = mine.outer;
  abandon_grid();
  std::fprintf(stderr, "gpu_on_host: illegal memory access at %p (%s) by '%s'%s%s\n",
               static_cast<const void*>(mine.address), describe(mine.address).c_str(), what.c_str(),
               mine.place.empty() ? "" : ", ", mine.place.c_str());
  return false;
}

void die(const char* format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  const std::string place = place_in_grid();
  std::fprintf(stderr, "gpu_on_host: %s%s%s\n", place.c_str(), place.empty() ? "" : ": ", text);
  std::fflush(stderr);
  std::abort();
}
}  // namespace hg
