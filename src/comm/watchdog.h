// Notices a lost rank without MPI: every rank holds a TCP connection to rank 0, which the kernel
// closes when the process dies; keepalive covers a dead host or link within about 20 s. The others
// write which rank is gone (rank, host, pid) and end with Exit::lost.
#pragma once
#include <memory>

#include "comm/communicator.h"

namespace cohort {

class Watchdog {
 public:
  // Collective. Exit::lost where the connections cannot be made.
  explicit Watchdog(Communicator& world);
  // Says goodbye: leaving later than this is no loss.
  ~Watchdog();
  // This rank is about to end the job with MPI_Abort: no rank is to call that a loss. Ranks that it
  // does not reach within seconds end by themselves, with the same code.
  void announce_abort(int exit_code);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cohort
