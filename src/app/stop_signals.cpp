#include "app/stop_signals.h"

#include <csignal>
#include <cstdlib>

#include "base/error.h"
#include "train/trainer.h"

namespace cohort {

StopSignals::StopSignals() {
  sigemptyset(&signals_);
  for (int number : {SIGTERM, SIGINT, SIGUSR1}) sigaddset(&signals_, number);
  const int failed = pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  COHORT_CHECK(failed == 0, "pthread_sigmask refused to block the stop signals");
  waiter_ = std::thread([this] { wait(); });
}

StopSignals::~StopSignals() {
  ending_ = true;
  pthread_kill(waiter_.native_handle(), SIGUSR1);
  waiter_.join();
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void StopSignals::wait() {
  for (int asked = 0, number = 0;; ++asked) {
    if (sigwait(&signals_, &number) != 0 || ending_) return;
    if (asked > 0) std::_Exit(static_cast<int>(Exit::stopped));
    request_stop();
  }
}

}  // namespace cohort
