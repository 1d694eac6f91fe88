// Work on records of a run (metrics, ledger, event files) that the storage may refuse for a while.
// The run goes on meanwhile: a warning tells it, and the work is tried again from time to time.
#pragma once
#include <functional>

namespace cohort {

class LateWork {
 public:
  // `work` does all that is owed; after an error of the storage it is called again, later.
  explicit LateWork(std::function<void()> work);
  void owe();      // there is something to do: now, where the storage does not refuse at present
  void retry();    // again, once it is time to; nothing where nothing is owed
  void finish();   // now; Error where it is still refused

 private:
  void run();
  std::function<void()> work_;
  bool owed_ = false, refused_ = false;
  double next_ = 0;   // not before; of seconds_now()
};

}  // namespace cohort
