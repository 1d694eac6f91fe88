#include "train/late_work.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"

namespace cohort {
namespace {

// Storage may take a minute to refuse: training stands still for a tenth of the time at most.
constexpr double shortest_pause_s = 1, pause_factor = 9;

}  // namespace

LateWork::LateWork(std::function<void()> work) : work_(std::move(work)) {}

void LateWork::owe() {
  owed_ = true;
  retry();
}

void LateWork::retry() {
  const double began = seconds_now();
  if (!owed_ || began < next_) return;
  try {
    run();
  } catch (const Error& e) {
    if (e.exit_code() != Exit::storage) throw;
    if (!refused_)
      log::warn("{}; what is to be written is kept and tried again, training goes on", e.what());
    refused_ = true;
    const double now = seconds_now();
    next_ = now + std::max(shortest_pause_s, pause_factor * (now - began));
  }
}

void LateWork::finish() {
  if (owed_) run();
}

void LateWork::run() {
  work_();
  owed_ = refused_ = false;
  next_ = 0;
}

}  // namespace cohort
