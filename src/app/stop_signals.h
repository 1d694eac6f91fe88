// SIGTERM, SIGINT and SIGUSR1 as a request to stop; a second one ends the process at once.
#pragma once
#include <pthread.h>

#include <atomic>
#include <thread>

namespace cohort {

// The signals are blocked in every thread and taken by one that waits for them. No handler may run
// on a compute thread: oneDNN's generated kernels point the stack pointer into a heap buffer, and
// the frame that the kernel pushes for a handler would overwrite what lies below it.
// Construct before the first thread (MPI starts some): threads inherit the mask.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

 private:
  void wait();
  sigset_t signals_{}, before_{};
  std::atomic<bool> ending_{false};
  std::thread waiter_;
};

}  // namespace cohort
