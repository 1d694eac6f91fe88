// Notices a rank that is lost, hangs or is slow, without MPI: every rank's watchdog thread tells
// rank 0 over TCP once a second what the rank is doing (comm/status.h), and rank 0 answers.
//
// A process that ends is noticed at once, a dead host or link within about 20 s, and a step that is
// not done in time after step_timeout: one message names the rank, and all end with Exit::lost.
// A rank or link that is merely slow is named in a warning.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "comm/communicator.h"

namespace cohort {

class Watchdog {
 public:
  // Collective. Exit::lost where the connections cannot be made. `status` outlives the watchdog.
  Watchdog(Communicator& world, Status& status);
  // Says goodbye: leaving later than this is no loss.
  ~Watchdog();
  // Until then WatchConfig's defaults hold; the same on every rank.
  void watch(const WatchConfig& config);
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
